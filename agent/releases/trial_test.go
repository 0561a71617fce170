package releases

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/cluster"
)

// Two releases, and what fails of them.
var (
	first  = "sha256:" + strings.Repeat("1", 64)
	second = "sha256:" + strings.Repeat("2", 64)
	broke  = Failure{Unit: "bulkhead-agent.service", How: "exit-code (exited 1)", Said: "no"}
)

// site is a host that runs the first release, and is about to be the second.
func site(t *testing.T) *Releases {
	t.Helper()
	r := &Releases{Dir: t.TempDir(), Running: first, Proven: make(chan struct{}), Log: slog.New(slog.DiscardHandler)}
	for _, release := range []string{first, second} {
		if err := os.MkdirAll(filepath.Join(r.Dir, "releases", cluster.ReleaseDir(release)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := point(r.Dir, "bin", filepath.Join("releases", cluster.ReleaseDir(first))); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Releases) become(t *testing.T, release string) {
	t.Helper()
	if err := r.link(filepath.Join(r.Dir, "releases", cluster.ReleaseDir(release))); err != nil {
		t.Fatal(err)
	}
}

// fail has something fail n times; only the last may, and has to, take the
// release back if last says so.
func (r *Releases) fail(t *testing.T, n int, last bool) {
	t.Helper()
	for i := range n {
		back, err := Failed(r.Dir, broke)
		if want := last && i == n-1; err != nil || back != want {
			t.Fatalf("failure %d takes the release back: %v, %v; want %v", i+1, back, err, want)
		}
	}
}

// is checks which release is in force, and whether another is there to go back
// to.
func (r *Releases) is(t *testing.T, release string, onTrial bool) {
	t.Helper()
	if got, err := inForce(r.Dir); err != nil || got != cluster.ReleaseDir(release) {
		t.Errorf("%s is in force, %v, want %s", got, err, cluster.ReleaseDir(release))
	}
	if _, err := os.Readlink(filepath.Join(r.Dir, before)); (err == nil) != onTrial {
		t.Errorf("the release before: %v, want it there: %v", err, onTrial)
	}
}

func TestFailuresOfAReleaseThatIsNotOnTrialChangeNothing(t *testing.T) {
	r := site(t)
	r.fail(t, 2*Tries, false)
	r.is(t, first, false)
	if _, err := os.Stat(filepath.Join(r.Dir, trial)); err == nil {
		t.Error("they are noted")
	}
}

func TestReleaseThatFailsOnTrialIsTakenBack(t *testing.T) {
	r := site(t)
	for range 2 { // tried again, it has all of its tries
		r.become(t, second)
		r.is(t, second, true)
		if why := r.TakenBack(second); why != "" {
			t.Errorf("it was taken back: %s", why)
		}
		r.fail(t, Tries, true)
		r.is(t, first, false)
	}
	if why := r.TakenBack(second); why != `bulkhead-agent.service failed 5 times, the last time with exit-code (exited 1), having said "no"` {
		t.Errorf("why it was: %s", why)
	}
	if why := r.TakenBack(first); why != "" {
		t.Errorf("why the other was: %s", why)
	}
	r.fail(t, 2*Tries, false)
	r.is(t, first, false)
}

func TestFailuresAreNotThoseOfAnotherRelease(t *testing.T) {
	r := site(t)
	r.become(t, second)
	r.fail(t, Tries-1, false)
	r.become(t, "sha256:"+strings.Repeat("3", 64))
	r.fail(t, Tries, true)
	r.is(t, first, false)
}

func TestTrialThatCannotBeReadBeginsAnew(t *testing.T) {
	r := site(t)
	r.become(t, second)
	if err := os.WriteFile(filepath.Join(r.Dir, trial), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.fail(t, Tries, true)
}

// proves has the second release's agent say that it does what it is for, and
// returns how long it took until it was no longer on trial.
func proves(t *testing.T, r *Releases, release string) time.Duration {
	t.Helper()
	began := time.Now()
	it := &Releases{Dir: r.Dir, Running: release, Proven: make(chan struct{}), Log: r.Log}
	if err := it.Prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-it.Proved()
	return time.Since(began)
}

func TestReleaseThatHasProvedItselfIsNotTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := site(t)
		r.become(t, second)
		r.fail(t, Tries-1, false)
		if took := proves(t, r, second); took != quiet {
			t.Errorf("it took %v, want %v", took, quiet)
		}
		r.is(t, second, false)
		r.fail(t, Tries, false)
		r.is(t, second, false)
	})
}

func TestFailureMakesTheTrialLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := site(t)
		r.become(t, second)
		time.AfterFunc(quiet-time.Second, func() { r.fail(t, 1, false) })
		if took := proves(t, r, second); took != 2*quiet-time.Second {
			t.Errorf("it took %v, want %v", took, 2*quiet-time.Second)
		}
	})
}

func TestAgentDoesNotEndTheTrialOfTheReleaseThatFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := site(t)
		r.become(t, second)
		proves(t, r, first)
		r.is(t, second, true)
	})
}

func TestAgentThatStartsLeavesWhyTheOtherWasTakenBack(t *testing.T) {
	r := site(t)
	r.become(t, second)
	r.fail(t, Tries, true)
	proves(t, r, first)
	if r.TakenBack(second) == "" {
		t.Error("nobody knows any more that it was")
	}
}

func TestTrialThatIsCutOffGoesOn(t *testing.T) {
	r := site(t)
	r.become(t, first)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Prove(ctx); err == nil {
		t.Error("it has proved itself")
	}
	r.is(t, first, true)
}
