package releases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

const (
	// Tries is how often units of a release may fail before it has proved
	// itself.
	Tries = 5
	// quiet is how long none of them may, for it to have.
	quiet = 10 * time.Second

	before = "before"     // a link to the release before, while the one in force is on trial
	trial  = "trial.json" // how that goes, or went
)

// Failure is how a unit of a release has ended.
type Failure struct {
	Unit string `json:"unit"`
	How  string `json:"how"` // in systemd's words
	Said string `json:"said,omitempty"`
}

// trialState is how the trial of a release goes.
type trialState struct {
	Release string    `json:"release"` // the name of its directory
	Failed  int       `json:"failed"`  // times
	At      time.Time `json:"at"`      // the last of them
	Last    Failure   `json:"last"`
}

// fail is the state after another failure, of a release that may be another.
func (s trialState) fail(release string, f Failure, now time.Time) trialState {
	if s.Release != release {
		s = trialState{Release: release}
	}
	return trialState{Release: release, Failed: s.Failed + 1, At: now, Last: f}
}

// over says whether it has failed so often that it is taken back.
func (s trialState) over() bool { return s.Failed >= Tries }

// rest is how long nothing more may fail for the release to have proved itself,
// which looks at it since then.
func (s trialState) rest(release string, since, now time.Time) time.Duration {
	if s.Release == release && s.At.After(since) {
		since = s.At
	}
	return quiet - now.Sub(since)
}

// Failed notes that a unit of the release in force has failed. If that is on
// trial and it is once too often, the release before is in force when Failed
// returns true: what runs of the other has to be restarted. dir is that of
// [Releases].
func Failed(dir string, f Failure) (back bool, err error) {
	unlock, err := lock(dir)
	if err != nil {
		return false, fmt.Errorf("cannot note that a release failed: %w", err)
	}
	defer unlock()
	if back, err = failed(dir, f); err != nil {
		return false, fmt.Errorf("cannot note that a release failed: %w", err)
	}
	return back, nil
}

func failed(dir string, f Failure) (back bool, err error) {
	to, err := os.Readlink(filepath.Join(dir, before))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	in, err := inForce(dir)
	if err != nil {
		return false, err
	}
	s, err := readTrial(dir)
	if err != nil { // a power cut's: counting begins anew
		s = trialState{}
	}
	s = s.fail(in, f, time.Now())
	data, err := json.Marshal(s)
	if err == nil {
		err = kept.Write(filepath.Join(dir, trial), data, 0o644)
	}
	if !s.over() {
		return false, err
	}
	// That a full disk keeps the reason from being told is no reason to stay.
	if err := point(dir, "bin", to); err != nil {
		return false, err
	}
	err = os.Remove(filepath.Join(dir, before))
	unix.Sync()
	return err == nil, err
}

// inForce is the name of the directory of the release in force.
func inForce(dir string) (string, error) {
	to, err := os.Readlink(filepath.Join(dir, "bin"))
	return filepath.Base(to), err
}

func readTrial(dir string) (s trialState, err error) {
	data, err := os.ReadFile(filepath.Join(dir, trial))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return s, err
}

// point makes a link in dir point to a target, in one step.
func point(dir, name, target string) error {
	next := filepath.Join(dir, kept.HalfWritten+name)
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(dir, name))
}

// lock keeps two of a host's units, which may end at once, apart.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// Prove is called, once, when the release that runs does what it is for. It waits until
// none of its units has failed for a while; then it is no longer on trial, and
// Prove returns nil. It returns ctx's error if that ends first.
func (r *Releases) Prove(ctx context.Context) error {
	since, mine := time.Now(), cluster.ReleaseDir(r.Running)
	for {
		rest, err := r.proven(mine, since)
		if err != nil {
			return fmt.Errorf("cannot end the trial of release %s: %w", r.Running, err)
		}
		if rest <= 0 {
			close(r.Proven)
			return nil
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// proven ends the trial of a release, or says how long it has still to go on.
func (r *Releases) proven(mine string, since time.Time) (rest time.Duration, err error) {
	unlock, err := lock(r.Dir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if _, err := os.Lstat(filepath.Join(r.Dir, before)); errors.Is(err, fs.ErrNotExist) {
		return 0, nil // there was none; why the last one ended stays
	}
	if in, err := inForce(r.Dir); err != nil || in != mine {
		return 0, err // the trial is another's, which is about to start
	}
	s, err := readTrial(r.Dir)
	if err != nil {
		r.Log.Warn("how the trial of this release went can't be read", "error", err)
	}
	if rest := s.rest(mine, since, time.Now()); rest > 0 {
		return rest, nil
	}
	r.Log.Info("this release has proved itself", "release", r.Running)
	return 0, errors.Join(os.Remove(filepath.Join(r.Dir, before)), os.RemoveAll(filepath.Join(r.Dir, trial)))
}

// Proved implements [orders.Releases].
func (r *Releases) Proved() <-chan struct{} { return r.Proven }

// TakenBack implements [orders.Releases].
func (r *Releases) TakenBack(digest string) string {
	s, err := readTrial(r.Dir)
	if err != nil || s.Release != cluster.ReleaseDir(digest) || !s.over() {
		return ""
	}
	why := fmt.Sprintf("%s failed %d times, the last time with %s", s.Last.Unit, s.Failed, s.Last.How)
	if s.Last.Said != "" {
		why += fmt.Sprintf(", having said %q", s.Last.Said)
	}
	return why
}
