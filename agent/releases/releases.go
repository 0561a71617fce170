// Package releases puts a release of Bulkhead in the place of the one that a
// host runs.
//
//	<dir>/releases/<digest>/  a release: its binaries, and manifest.json
//	<dir>/bin                 a link to the one in force
//	<dir>/before              a link to the one before, while that in force is on trial
//	<dir>/trial.json          how that goes, or how the last that was taken back failed
//
// What is installed is verified by its digest, file by file, before the link is
// replaced in one step; a release that is there already, as the one before is,
// needs no network. Nothing is removed but what was left half fetched.
//
// A release is on trial until it has proved itself. While it is, whatever of it
// fails is noted by the release before, which its unit runs ([Failed]); once too
// often, and that is in force again.
package releases

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

const (
	maxManifest = 64 << 10  // bytes
	maxBinary   = 512 << 20 // likewise
	stall       = time.Minute
	// tryPatience is how long a new binary may take to say what it is for.
	tryPatience = 20 * time.Second
	manifest    = "manifest.json"
)

// Releases are those of one host.
type Releases struct {
	Dir       string // /opt/bulkhead
	Artifacts string // URL of the directory with release-<digest>.json and <name>-<digest>, ending in a slash
	Running   string // digest of the release that runs
	// Restarted has what runs restarted, ourselves last; it does not wait.
	Restarted func(context.Context) error
	Proven    chan struct{} // closed by Prove
	Log       *slog.Logger
}

// Of is the digest of the release whose binaries are in a directory.
func Of(dir string) (string, error) {
	m := cluster.ReleaseManifest{Files: map[string]string{}}
	for _, name := range cluster.Binaries {
		sum, err := digest(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("cannot tell which release is in %s: %w", dir, err)
		}
		m.Files[name] = sum
	}
	return m.Digest(), nil
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// Current implements [orders.Releases].
func (r *Releases) Current() string { return r.Running }

// Restart implements [orders.Releases].
func (r *Releases) Restart(ctx context.Context) error { return r.Restarted(ctx) }

// Install implements [orders.Releases].
func (r *Releases) Install(ctx context.Context, digest string) error {
	if err := cluster.CheckRelease(digest); err != nil {
		return err
	}
	dir := filepath.Join(r.Dir, "releases", cluster.ReleaseDir(digest))
	if err := whole(dir, digest); err != nil {
		r.Log.Info("fetching a release", "release", digest, "because", err)
		if err := r.fetch(ctx, digest, dir); err != nil {
			return fmt.Errorf("cannot install release %s: %w", digest, err)
		}
	}
	if err := try(ctx, filepath.Join(dir, "bulkhead")); err != nil {
		return fmt.Errorf("cannot install release %s: %w", digest, err)
	}
	if err := r.link(dir); err != nil {
		return fmt.Errorf("cannot install release %s: %w", digest, err)
	}
	return nil
}

// whole says why a directory is not the release.
func whole(dir, digest string) error {
	text, err := os.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		return err
	}
	if _, err := cluster.DecodeReleaseManifest(text, digest); err != nil {
		return err
	}
	if got, err := Of(dir); err != nil || got != digest {
		return errors.Join(fmt.Errorf("%s holds %s", dir, got), err)
	}
	return nil
}

// fetch makes the release's directory.
func (r *Releases) fetch(ctx context.Context, digest, dir string) error {
	if r.Artifacts == "" {
		return errors.New("this host was not told where releases are (bulkhead agent --artifacts)")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	half := filepath.Join(filepath.Dir(dir), kept.HalfWritten+filepath.Base(dir))
	if err := errors.Join(os.RemoveAll(half), os.MkdirAll(half, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(half)
	name := "release-" + digest[len("sha256:"):] + ".json"
	if err := r.get(ctx, name, filepath.Join(half, manifest), "", maxManifest); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(half, manifest))
	if err != nil {
		return err
	}
	m, err := cluster.DecodeReleaseManifest(text, digest)
	if err != nil {
		return err
	}
	for _, name := range cluster.Binaries {
		if err := r.get(ctx, name+"-"+m.Files[name], filepath.Join(half, name), m.Files[name], maxBinary); err != nil {
			return err
		}
	}
	unix.Sync() // or a power cut leaves a host without binaries
	return errors.Join(os.RemoveAll(dir), os.Rename(half, dir))
}

// get gets one file of the artifacts, of this digest unless it is empty.
func (r *Releases) get(ctx context.Context, name, to, sum string, limit int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(stall, cancel)
	defer timer.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Artifacts+name, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: it answers %s", r.Artifacts, name, resp.Status)
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(moving{resp.Body, timer}, limit+1))
	err = errors.Join(err, f.Close())
	switch got := hex.EncodeToString(h.Sum(nil)); {
	case err != nil:
	case n > limit:
		err = fmt.Errorf("it is larger than %d bytes", limit)
	case sum != "" && got != sum:
		err = fmt.Errorf("its digest is %s", got)
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", r.Artifacts, name, err)
	}
	return nil
}

// moving notes that something comes.
type moving struct {
	io.Reader
	timer *time.Timer
}

// Read implements [io.Reader].
func (m moving) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.timer.Reset(stall)
	}
	return n, err
}

// try sees that a binary runs on this machine at all: once it is the agent,
// nobody could put back the one before.
func try(ctx context.Context, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, tryPatience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, binary, "--help").CombinedOutput(); err != nil {
		return fmt.Errorf("its bulkhead does not run here: %w: %.200s", err, out)
	}
	return nil
}

// link puts the release in force, on trial: what runs is what it is taken back
// to.
func (r *Releases) link(dir string) error {
	unlock, err := lock(r.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	bin := filepath.Join(r.Dir, "bin")
	if info, err := os.Lstat(bin); err == nil && info.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s is no link: this host was made before there were releases; make it anew (bulkhead butane render)", bin)
	}
	err = os.Remove(filepath.Join(r.Dir, trial))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, point(r.Dir, before, filepath.Join("releases", cluster.ReleaseDir(r.Running))))
	if err == nil {
		err = point(r.Dir, "bin", filepath.Join("releases", filepath.Base(dir)))
	}
	unix.Sync()
	return err
}
