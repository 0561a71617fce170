package fleet

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// load sends requests at a constant rate, whatever becomes of those before
// (open loop), to the proxies that say that they take some, as a load balancer
// does.
type load struct {
	t       *testing.T
	cancel  context.CancelFunc
	work    sync.WaitGroup
	client  *http.Client
	calls   []call
	proxies []string

	mu     sync.Mutex
	ready  map[string]bool
	sent   int
	slow   []time.Duration
	failed []string
}

// call is a function that is called, and what it answers.
type call struct{ path, token, want string }

const (
	every = 25 * time.Millisecond // between two requests
	looks = 500 * time.Millisecond
)

// startLoad calls functions through proxies until end.
func startLoad(t *testing.T, proxies []string, calls ...call) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{
		t: t, cancel: cancel, calls: calls, proxies: proxies, ready: map[string]bool{},
		client: &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
	}
	for _, p := range proxies {
		l.look(ctx, p)
		l.work.Go(func() {
			for tick := time.Tick(looks); ; {
				select {
				case <-tick:
					l.look(ctx, p)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	l.work.Go(func() { l.send(ctx) })
	t.Cleanup(func() { l.cancel(); l.work.Wait() })
	return l
}

// look asks a proxy whether it takes requests.
func (l *load) look(ctx context.Context, proxy string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", proxy+"/-/readyz", nil)
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready[proxy] = err == nil && resp.StatusCode == 200
}

func (l *load) send(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case due := <-tick.C:
			l.work.Go(func() { l.one(n, due) })
		case <-ctx.Done():
			return
		}
	}
}

// next is the proxy whose turn it is.
func (l *load) next(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	for i := range l.proxies {
		if p := l.proxies[(n+i)%len(l.proxies)]; l.ready[p] {
			return p
		}
	}
	return l.proxies[n%len(l.proxies)]
}

func (l *load) one(n int, due time.Time) {
	c, proxy := l.calls[n%len(l.calls)], l.next(n/len(l.calls))
	method, body := "GET", io.Reader(nil)
	if n%2 == 0 { // the client may ask twice for what has no body
		method, body = "POST", io.MultiReader(bytes.NewReader([]byte("{}")))
	}
	req, err := http.NewRequest(method, proxy+c.path, body)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := l.client.Do(req)
	var got []byte
	if err == nil {
		got, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = append(l.slow, time.Since(due))
	switch {
	case err != nil:
		l.failed = append(l.failed, fmt.Sprintf("%s %s %s%s: %v", due.Format("15:04:05.000"), method, proxy, c.path, err))
	case resp.StatusCode != 200 || !strings.Contains(string(got), c.want):
		l.failed = append(l.failed, fmt.Sprintf("%s %s %s%s: %d %s", due.Format("15:04:05.000"), method, proxy, c.path, resp.StatusCode, got))
	}
}

// end stops the load and waits for the last answers. It returns how many
// requests were sent, and what failed.
func (l *load) end() (sent int, failed []string) {
	l.t.Helper()
	l.cancel()
	l.work.Wait()
	slices.SortFunc(l.slow, cmp.Compare[time.Duration])
	if len(l.slow) == 0 {
		l.t.Fatal("the load sent nothing")
	}
	at := func(share float64) time.Duration {
		return l.slow[int(share*float64(len(l.slow)-1))].Round(100 * time.Microsecond)
	}
	l.t.Logf("%d requests, %d failed; p50 %s, p99 %s, longest %s", len(l.slow), len(l.failed), at(0.5), at(0.99), at(1))
	return len(l.slow), l.failed
}

// none fails the test unless every request was answered.
func (l *load) none() {
	l.t.Helper()
	sent, failed := l.end()
	if len(failed) > 0 {
		l.t.Errorf("%d of %d requests failed, the first: %s", len(failed), sent, strings.Join(failed[:min(3, len(failed))], "\n"))
	}
}

// waitFor waits until so many requests more have been sent.
func (l *load) waitFor(requests int) {
	l.mu.Lock()
	until := l.sent + requests
	l.mu.Unlock()
	for tick := time.NewTicker(every); ; {
		select {
		case <-tick.C:
		case <-l.t.Context().Done():
			l.t.Fatal("the test's time is over")
		}
		l.mu.Lock()
		done := l.sent >= until
		l.mu.Unlock()
		if done {
			tick.Stop()
			return
		}
	}
}
