package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Call is a function that is called, and what its answer has in it.
type Call struct{ Path, Token, Want string }

// Options say what is called, where and how often.
type Options struct {
	Proxies []string      // URLs
	Calls   []Call        // in turn
	Every   time.Duration // between two requests
	Timeout time.Duration // for one request; 40 s
}

// Failure is a request that was not answered as it should be.
type Failure struct {
	Due   time.Time
	Call  Call
	Proxy string
	What  string // what became of it
}

func (f Failure) String() string {
	return fmt.Sprintf("%s %s%s: %s", f.Due.Format("15:04:05.000"), f.Proxy, f.Call.Path, f.What)
}

// Result is what became of a load.
type Result struct {
	Sent   int
	Failed []Failure
	// Of all requests, from when they were due to the end of their answer.
	P50, P99, Longest time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("%d requests, %d failed; p50 %s, p99 %s, longest %s", r.Sent, len(r.Failed), r.P50, r.P99, r.Longest)
}

// Load is a load that goes on until Stop.
type Load struct {
	Options
	cancel context.CancelFunc
	work   sync.WaitGroup
	client *http.Client
	turns  *turns

	mu     sync.Mutex
	sent   int
	took   []time.Duration
	failed []Failure
	more   chan struct{} // closed and made anew with each request
}

// Start begins a load. It ends with Stop, which must be called, or ctx.
func Start(ctx context.Context, o Options) *Load {
	if o.Timeout == 0 {
		o.Timeout = 40 * time.Second
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{
		Options: o, cancel: cancel, more: make(chan struct{}),
		client: &http.Client{Timeout: o.Timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 200}},
		turns:  newTurns(ctx, o.Proxies),
	}
	l.work.Go(func() { l.send(ctx) })
	return l
}

func (l *Load) send(ctx context.Context) {
	tick := time.NewTicker(l.Every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case due := <-tick.C:
			l.mu.Lock()
			l.sent++
			close(l.more)
			l.more = make(chan struct{})
			l.mu.Unlock()
			l.work.Go(func() { l.one(n, due) })
		case <-ctx.Done():
			return
		}
	}
}

func (l *Load) one(n int, due time.Time) {
	c, proxy := l.Calls[n%len(l.Calls)], l.turns.next(n/len(l.Calls))
	what := l.ask(n, c, proxy)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, time.Since(due))
	if what != "" {
		l.failed = append(l.failed, Failure{due, c, proxy, what})
	}
}

// ask sends one request, and says what was wrong with the answer.
func (l *Load) ask(n int, c Call, proxy string) (wrong string) {
	method, body := "GET", io.Reader(nil)
	if n%2 == 0 { // what has no body Go's client may ask for twice
		method, body = "POST", io.MultiReader(bytes.NewReader([]byte("{}")))
	}
	req, err := http.NewRequest(method, proxy+c.Path, body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	resp, err := l.client.Do(req)
	if err != nil {
		return method + ": " + err.Error()
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return method + ": the answer broke off: " + err.Error()
	}
	if resp.StatusCode != 200 || !strings.Contains(string(got), c.Want) {
		return fmt.Sprintf("%s: %d %s", method, resp.StatusCode, got)
	}
	return ""
}

// Await waits until so many requests more have been sent, or ctx ends.
func (l *Load) Await(ctx context.Context, requests int) error {
	l.mu.Lock()
	until := l.sent + requests
	for l.sent < until {
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
	}
	l.mu.Unlock()
	return nil
}

// Failed is how many have failed so far.
func (l *Load) Failed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

// Stop ends the load and waits for the last answers.
func (l *Load) Stop() Result {
	l.cancel()
	l.work.Wait()
	l.turns.work.Wait()
	l.client.CloseIdleConnections()
	slices.Sort(l.took)
	at := func(share float64) time.Duration {
		if len(l.took) == 0 {
			return 0
		}
		return l.took[int(share*float64(len(l.took)-1))].Round(100 * time.Microsecond)
	}
	return Result{Sent: len(l.took), Failed: l.failed, P50: at(0.5), P99: at(0.99), Longest: at(1)}
}
