package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// exits measures how long a function is away after its process has ended, and
// how the platform takes one that does nothing but end.
func exits(t *testing.T, m *machine) {
	c := m.tenant("exits", harsh+`, "resources": {"memory": "512MiB", "cpu": 1, "pids": 512}`)
	t.Run("the function is back from a spare", func(t *testing.T) { backInService(t, c) })
	t.Run("a crash loop rests its function alone, until a new version", func(t *testing.T) { crashLoop(t, c) })
	t.Run("code that exits when it is loaded is mended by a new version", func(t *testing.T) { exitAtLoad(t, c) })
}

func backInService(t *testing.T, c *tenant) {
	if err := c.deploy("meanwhile", `module.exports = (ctx, req, res) => res.end('quick');`); err != nil {
		t.Fatal(err)
	}
	meanwhile := c.watch("meanwhile")
	defer meanwhile.end()
	var away []time.Duration
	for i := range 5 {
		name := fmt.Sprintf("leaver-%d", i)
		if err := c.deploy(name, `module.exports = (ctx, req, res) => req.url === '/exit' ? process.exit(1) : res.end('here');`); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a third would be a crash loop
			if g := c.get(name); !g.ok("here") {
				t.Fatal(g)
			}
			for range 10 { // calls of another function: by then there is a spare again
				<-meanwhile.beat
			}
			if g := c.get(name + "/exit"); g.status != 500 || !strings.Contains(g.body, "process.exit(1)") {
				t.Fatalf("the exit: %v", g)
			}
			next := c.get(name)
			if !next.ok("here") {
				t.Fatalf("the request after it: %v", next)
			}
			away = append(away, next.took)
		}
	}
	slices.Sort(away)
	t.Logf("from the exit's answer to the next one's: median %v, longest %v", away[len(away)/2].Round(time.Millisecond), away[len(away)-1].Round(time.Millisecond))
	if median := away[len(away)/2]; median > time.Second {
		t.Errorf("half of the times it took more than %v", median)
	}
}

func crashLoop(t *testing.T, c *tenant) {
	const crashing = `module.exports = (ctx, req, res) => process.exit(9);`
	for name, code := range map[string]string{"crashing": crashing, "calm": `module.exports = (ctx, req, res) => res.end('quick');`} {
		if err := c.deploy(name, code); err != nil {
			t.Fatal(err)
		}
	}
	calm := c.watch("calm")
	for i := range 3 {
		if g := c.get("crashing"); g.status != 500 || !strings.Contains(g.body, "process.exit(9)") {
			t.Errorf("crash %d: %v", i, g)
		}
	}
	var resting got
	began := time.Now()
	for resting = c.get("crashing"); resting.status == 500 && time.Since(began) < 10*time.Second; resting = c.get("crashing") {
		// The last process's end is not known to the runner as soon as its answer is.
	}
	if after, err := strconv.Atoi(resting.header.Get("retry-after")); resting.status != 503 || resting.Error != "function_crashing" || err != nil || after < 1 || !strings.Contains(resting.Message, "process.exit(9)") {
		t.Errorf("after the crashes: %v, retry-after %q", resting, resting.header.Get("retry-after"))
	}
	if err := c.deploy("crashing", `module.exports = (ctx, req, res) => res.end('mended');`); err != nil {
		t.Fatal(err)
	}
	if g := c.get("crashing"); !g.ok("mended") {
		t.Errorf("a new version: %v", g)
	}
	calm.end()
	for _, g := range calm.failed {
		t.Errorf("another function: %v", g)
	}
}

func exitAtLoad(t *testing.T, c *tenant) {
	if err := c.deploy("stillborn", `process.exit(4);`); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if g := c.get("stillborn"); g.status != 400 || !strings.Contains(g.body, "process.exit(4)") {
			t.Errorf("got %v", g)
		}
	}
	if err := c.deploy("stillborn", `module.exports = (ctx, req, res) => res.end('alive');`); err != nil {
		t.Fatal(err)
	}
	if g := c.get("stillborn"); !g.ok("alive") {
		t.Errorf("a new version: %v", g)
	}
}
