package host

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/cluster"
)

// release makes another release out of the one that the cluster was made with,
// by adding to its binaries or, if they are to be broken, replacing them, puts
// it among the artifacts, and returns its digest.
func (c *Fleet) release(broken bool) string {
	c.t.Helper()
	return c.releaseOf(func(_ string, data []byte) []byte {
		if broken {
			data = []byte("no program")
		}
		return append(data, '\n')
	})
}

// releaseOf does the same by what change makes of each binary.
func (c *Fleet) releaseOf(change func(name string, data []byte) []byte) string {
	c.t.Helper()
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	dir := c.t.TempDir()
	for _, name := range cluster.Binaries {
		data, err := os.ReadFile(c.File("artifacts/" + name))
		must(err)
		must(os.WriteFile(filepath.Join(dir, name), change(name, data), 0o755))
	}
	must(os.Link(c.File("artifacts/image.tar"), filepath.Join(dir, "image.tar")))
	var packed struct{ Release string }
	must(json.Unmarshal([]byte(c.Bulkhead("butane", "pack", "--artifacts", dir, "--output", "json")), &packed))
	files, err := filepath.Glob(filepath.Join(dir, "*-*"))
	must(err)
	for _, f := range files {
		must(os.Rename(f, c.File("artifacts/"+filepath.Base(f))))
	}
	return packed.Release
}

// A host becomes another release by itself, and the one before again without a
// network; one that can't run, or that nobody has, leaves it as it is.
func TestHostBecomesTheReleaseThatItIsTold(t *testing.T) {
	c := Cluster(t, 1)
	o := tell(t, c)[0]
	first := o.present()
	next, broken := c.release(false), c.release(true)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- c.fleet.Serve(ctx) }()

	if r := o.report(o.order(cluster.Order{Release: "sha256:" + strings.Repeat("0", 64)}), cluster.OrderFailed); !strings.Contains(r.Error, "404") {
		t.Errorf("a release that there is not: %q", r.Error)
	}
	if r := o.report(o.order(cluster.Order{Release: broken}), cluster.OrderFailed); !strings.Contains(r.Error, "does not run here") {
		t.Errorf("a release that does not run: %q", r.Error)
	}
	o.becomes(next, first)
	o.ready(true)
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	second := o.present()
	o.becomes(first.Versions["release"], second)
	if now := o.present(); now.Paths.Runner != first.Paths.Runner || second.Paths.Runner == first.Paths.Runner {
		t.Errorf("the runner was %s, then %s, and is %s again", first.Paths.Runner, second.Paths.Runner, now.Paths.Runner)
	}
	o.ready(true)
}

// becomes has the host become a release, which takes another agent.
func (o *ordered) becomes(release string, was cluster.Host) {
	o.t.Helper()
	if was.Versions["release"] == release || was.Versions["release"] == "" {
		o.t.Fatalf("it is release %q already", release)
	}
	o.do(cluster.Order{Release: release})
	if now := o.present(); now.Versions["release"] != release || now.Since.Equal(was.Since) {
		o.t.Errorf("it is release %s since %v, want %s and later than %v", now.Versions["release"], now.Since, release, was.Since)
	}
}
