package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"bulkhead/butane"
	"bulkhead/cluster"
)

// gather puts what hosts fetch into the artifacts directory: the binaries as
// built, and the image, which is built now.
func (f *Fleet) gather(ctx context.Context) error {
	dir := f.file("artifacts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make a place for artifacts: %w", err)
	}
	for _, name := range cluster.Binaries {
		if err := link(filepath.Join(f.Root, "bin", name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot gather artifacts (scripts/build builds them): %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(f.Root, "bin", "bulkhead"), "image", "build", "--state", f.file("image"), "--output", "json")
	out, err := cmd.Output()
	var image struct{ Tar string }
	if err == nil {
		err = json.Unmarshal(out, &image)
	}
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%w: %s", err, failed.Stderr)
		}
		return fmt.Errorf("cannot build the image: %w", err)
	}
	return link(image.Tar, filepath.Join(dir, butane.ImageFile))
}

// link replaces a file by another: the same where that can be, else a copy.
func link(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// serve serves the artifacts on the hosts' network until the end is called.
func (f *Fleet) serve() (end func(), err error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(f.Gateway, strconv.Itoa(f.Port)))
	if err != nil {
		return nil, fmt.Errorf("cannot serve artifacts on the hosts' network: %w", err)
	}
	f.Port = ln.Addr().(*net.TCPAddr).Port
	server := &http.Server{Handler: http.FileServer(http.Dir(f.file("artifacts")))}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(ln) // until closed
	}()
	return func() { server.Close(); <-ended }, nil
}

// Serve serves the artifacts of a fleet that was prepared, until ctx ends.
func (f *Fleet) Serve(ctx context.Context) error {
	end, err := f.serve()
	if err != nil {
		return err
	}
	<-ctx.Done()
	end()
	return nil
}
