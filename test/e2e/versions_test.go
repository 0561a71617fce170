package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	deploys = 50
	clients = 8
)

// versioned says of itself which version it is: when it was loaded, when the
// request came, and after a wait. A process that two versions shared would mix
// them.
const versioned = `globalThis.first ??= %[1]d;
module.exports = (ctx, req, res) => {
  const came = globalThis.first;
  globalThis.last = %[1]d;
  setTimeout(() => res.end([came, globalThis.last, %[1]d].join(' ')), req.url === '/long' ? 3000 : 5 + Math.random() * 40);
};`

// newVersions deploys under load. No request fails, none sees a version older
// than the newest that was confirmed before it began, and none sees a mix.
func newVersions(t *testing.T, m *machine) {
	c := m.tenant("versions", `"limits": {"rate": 0, "concurrency": 1000}, "resources": {"memory": "512MiB", "cpu": 1.5, "pids": 512}`)
	c.mustDeploy("f", fmt.Sprintf(versioned, 0))
	if g := c.get("f"); !g.ok("0 0 0") {
		t.Fatal(g)
	}
	var confirmed, begun, answers atomic.Int64
	var stopped atomic.Bool
	var load sync.WaitGroup
	wrong := make(chan string, 100)
	for i := range clients {
		load.Go(func() {
			for method := []string{"GET", "POST"}[i%2]; !stopped.Load(); answers.Add(1) {
				oldest := confirmed.Load()
				g := c.do(method, "f", "")
				if why := outdated(g, oldest, begun.Load()); why != "" {
					select {
					case wrong <- method + ": " + why:
					default:
					}
				}
			}
		})
	}
	long := c.start("POST", "f/long")
	began := time.Now()
	for n := int64(1); n <= deploys; n++ {
		begun.Store(n)
		if err := c.deploy("f", fmt.Sprintf(versioned, n)); err != nil {
			t.Error(err)
			break
		}
		confirmed.Store(n)
	}
	took := time.Since(began)
	stopped.Store(true)
	load.Wait()
	close(wrong)
	for why := range wrong {
		t.Error(why)
	}
	if g := <-long; g.err != nil || g.status != 200 || outdated(g, 0, 3) != "" {
		t.Errorf("a request that outlived its version got %v", g)
	}
	t.Logf("%d deploys in %v, %d requests meanwhile", deploys, took.Round(time.Millisecond), answers.Load())
}

// outdated says what is wrong with an answer; "": nothing.
func outdated(g got, oldest, newest int64) string {
	if g.err != nil || g.status != 200 {
		return g.String()
	}
	words := strings.Fields(g.body)
	version, err := strconv.ParseInt(words[0], 10, 64)
	switch {
	case err != nil || len(words) != 3 || words[1] != words[0] || words[2] != words[0]:
		return "a mix of versions: " + g.body
	case version < oldest:
		return fmt.Sprintf("version %d, although %d was confirmed before", version, oldest)
	case version > newest:
		return fmt.Sprintf("version %d, which is not deployed yet", version)
	}
	return ""
}
