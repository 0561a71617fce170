package e2e

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	fewSlow  = 3000 // requests, unless BULKHEAD_SLOW_REQUESTS says how many
	atOnce   = 1000
	workers  = 2
	shortest = 100 * time.Millisecond
	longest  = 10 * time.Second
)

// Containers have no network but lo, so one function of the tenant is the slow
// server that another asks.
const (
	slowServer = `const http = require('http');
const server = http.createServer((req, res) => setTimeout(() => res.end('slowly'), +req.url.slice(1)));
server.keepAliveTimeout = 60000;
server.listen(7000, '127.0.0.1');
module.exports = (ctx, req, res) => res.end('quick');`
	slowAsker = `const http = require('http');
const agent = new http.Agent({ keepAlive: true });
const byHTTP = (ms) => new Promise((go, fail) => {
  http.get({ host: '127.0.0.1', port: 7000, path: '/' + ms, agent }, (r) => { let s = ''; r.on('data', (d) => { s += d; }).on('end', () => go(s)).on('error', fail); }).on('error', fail);
});
const byFetch = async (ms) => (await fetch('http://127.0.0.1:7000/' + ms)).text();
module.exports = async (ctx) => (ctx.query.by === 'http' ? byHTTP : byFetch)(ctx.query.ms);`
	// Five to eight tenths of limits.block in one turn.
	hardWorker = `module.exports = (ctx, req, res) => {
  const ms = 150 + Math.random() * 90, before = process.cpuUsage();
  for (;;) { const { user, system } = process.cpuUsage(before); if ((user + system) / 1000 >= ms) break; }
  res.end('quick');
};`
)

// slowRequests has many requests wait for something slow, beside honest work
// that takes its time: the watchdog must touch neither.
func slowRequests(t *testing.T, m *machine) {
	count := fewSlow
	if s := os.Getenv("BULKHEAD_SLOW_REQUESTS"); s != "" {
		var err error
		if count, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	c := m.tenant("slow", `"limits": {"block": "300ms", "cpu": "2s", "rate": 0, "concurrency": 5000}, "resources": {"memory": "768MiB", "cpu": 2, "pids": 512}`)
	c.mustDeploy("server", slowServer)
	c.mustDeploy("asker", slowAsker)
	c.mustDeploy("worker", hardWorker)
	server := c.watch("server")
	<-server.beat // it listens
	var work []*watcher
	for range workers {
		work = append(work, c.watch("worker"))
	}
	began := time.Now()
	late, failed := ask(c, delays(count))
	t.Logf("%d requests of 0.1 to 10 s in %v, %d at a time; beyond their delay median %v, p99 %v, longest %v", count, time.Since(began).Round(time.Millisecond), atOnce,
		quantile(late, 0.5), quantile(late, 0.99), quantile(late, 1))
	for _, w := range append(work, server) {
		w.end()
		for _, g := range w.failed {
			t.Errorf("honest work got %v", g)
		}
	}
	t.Logf("hard work meanwhile: %d and %d requests of 150 to 240 ms of CPU each", work[0].calls, work[1].calls)
	for i, g := range failed {
		if i < 10 {
			t.Errorf("a slow request got %v", g)
		}
	}
	if len(failed) > 0 {
		t.Errorf("%d slow requests failed", len(failed))
	}
	if log := m.bulkhead("logs", "slow", "--tail", "0", "--state", m.state); strings.Contains(log, "over the limit") || strings.Contains(log, "three times the limit") {
		t.Errorf("the watchdog stopped something:\n%s", log)
	}
}

// delays are spread evenly over the orders of magnitude.
func delays(n int) []time.Duration {
	all := make([]time.Duration, n)
	span := math.Log(float64(longest) / float64(shortest))
	for i := range all {
		all[i] = time.Duration(float64(shortest) * math.Exp(span*rand.Float64())).Truncate(time.Millisecond)
	}
	if n <= fewSlow { // or the last few would take most of the time
		slices.Sort(all)
		slices.Reverse(all)
	}
	return all
}

// ask sends all, half of them by http and half by fetch; late is how much
// longer each took than its delay.
func ask(c *tenant, delays []time.Duration) (late []time.Duration, failed []got) {
	var next atomic.Int64
	var all sync.WaitGroup
	var mu sync.Mutex
	for range atOnce {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(delays) {
					return
				}
				by := []string{"http", "fetch"}[i%2]
				g := c.get(fmt.Sprintf("asker?by=%s&ms=%d", by, delays[i].Milliseconds()))
				mu.Lock()
				late = append(late, g.took-delays[i])
				if !g.ok(`"slowly"`) {
					failed = append(failed, g)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(late)
	return late, failed
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Millisecond)
}
