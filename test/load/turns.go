package load

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// looks is how often a proxy is asked whether it takes requests.
const looks = 500 * time.Millisecond

// turns are proxies that take turns, those that say that they take requests.
type turns struct {
	proxies []string
	work    sync.WaitGroup
	mu      sync.Mutex
	ready   map[string]bool
}

func newTurns(ctx context.Context, proxies []string) *turns {
	t := &turns{proxies: proxies, ready: map[string]bool{}}
	for _, p := range proxies {
		t.look(ctx, p)
		t.work.Go(func() {
			for tick := time.Tick(looks); ; {
				select {
				case <-tick:
					t.look(ctx, p)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return t
}

func (t *turns) look(ctx context.Context, proxy string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", proxy+"/-/readyz", nil)
	var resp *http.Response
	if err == nil {
		resp, err = http.DefaultClient.Do(req)
	}
	if err == nil {
		resp.Body.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready[proxy] = err == nil && resp.StatusCode == http.StatusOK
}

// next is the proxy whose turn it is; when none takes requests, any.
func (t *turns) next(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.proxies {
		if p := t.proxies[(n+i)%len(t.proxies)]; t.ready[p] {
			return p
		}
	}
	return t.proxies[n%len(t.proxies)]
}
