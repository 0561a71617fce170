package orders_test

import (
	"context"
	"strings"
	"testing"

	"bulkhead/cluster"
)

// installed stand in for a host's releases. The real ones run on a real host
// (test/host).
type installed struct {
	running   string
	asked     chan struct{}
	proved    chan struct{}
	restarted chan struct{}
	why       string // what was installed was taken back
}

func (i *installed) Current() string                       { return i.running }
func (i *installed) Install(context.Context, string) error { return nil }
func (i *installed) Restart(context.Context) error         { close(i.restarted); return nil }
func (i *installed) Proved() <-chan struct{}               { close(i.asked); return i.proved }
func (i *installed) TakenBack(string) string               { return i.why }

// becoming is a site whose agent was restarted to become release 2, by order a.
func becoming(t *testing.T, after *installed) *site {
	s := newSite(t)
	s.stop()
	now := &installed{running: "sha256:1", restarted: make(chan struct{})}
	s.config.Releases = now
	s.start(true)
	s.order(cluster.Order{ID: "a", Release: "sha256:2"})
	<-now.restarted
	s.stop()
	s.config.Releases = after
	s.start(true)
	return s
}

func TestHostIsAReleaseOnceThatHasProvedItself(t *testing.T) {
	r := &installed{running: "sha256:2", asked: make(chan struct{}), proved: make(chan struct{})}
	s := becoming(t, r)
	<-r.asked
	s.report(is("a", cluster.OrderDoing))
	close(r.proved)
	s.report(is("a", cluster.OrderDone))
}

func TestReleaseThatWasTakenBackSaysWhy(t *testing.T) {
	s := becoming(t, &installed{running: "sha256:1", why: "its agent failed"})
	r := s.report(is("a", cluster.OrderFailed))
	for _, want := range []string{"sha256:2: its agent failed", "went back to sha256:1"} {
		if !strings.Contains(r.Error, want) {
			t.Errorf("%q does not say %q", r.Error, want)
		}
	}
}

func TestReleaseThatNeverCameSaysSo(t *testing.T) {
	s := becoming(t, &installed{running: "sha256:1"})
	if r := s.report(is("a", cluster.OrderFailed)); !strings.Contains(r.Error, "is still sha256:1") {
		t.Errorf("it says %q", r.Error)
	}
}
