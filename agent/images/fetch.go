package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
)

const (
	// maxArchive bounds an archive, in bytes.
	maxArchive = 4 << 30
	// stall is how long a source may send nothing. Docker writes the whole
	// archive to its disk before the first byte.
	stall = time.Minute
	// rounds is how often every source is tried, and between how long to wait:
	// those that have the image may be giving it to others.
	rounds  = 5
	between = 5 * time.Second
)

// Engine is where images are: Docker.
type Engine interface {
	HasImage(ctx context.Context, id string) (bool, error)
	Load(ctx context.Context, archive io.Reader) error
	Save(ctx context.Context, id string) (io.ReadCloser, error)
}

// Fetcher gives this host images that it lacks.
type Fetcher struct {
	Engine    Engine
	Image     string // that File holds
	File      string // an archive on this host; empty: there is none
	Artifacts string // URL of the directory with image-<id>.tar, ending in a slash; empty: there is none
	// Dial connects to another host's agent; nil: no other host is asked.
	Dial func(ctx context.Context, host, address string) (net.Conn, error)
	Log  *slog.Logger
}

// source is where an archive may be had.
type source struct {
	name string
	open func(context.Context) (io.ReadCloser, error)
}

// Fetch gives Docker the image that an order names. The error says of each
// source why it was not from there.
func (f Fetcher) Fetch(ctx context.Context, o cluster.Order) error {
	all := f.sources(o)
	if len(all) == 0 {
		return fmt.Errorf("cannot get image %s: there is nowhere to get it from: no host has it, and this one was not told where artifacts are (bulkhead agent --artifacts)", o.Image)
	}
	var errs []error
	for round := range rounds {
		if round > 0 {
			select {
			case <-time.After(between):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		errs = nil
		for _, s := range all {
			begun := time.Now()
			err := f.from(ctx, s, o.Image)
			if err == nil {
				f.Log.Info("got an image", "image", o.Image, "from", s.name, "took", time.Since(begun).Round(time.Millisecond))
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f.Log.Warn("no image from there", "image", o.Image, "from", s.name, "error", err)
			errs = append(errs, fmt.Errorf("from %s: %w", s.name, err))
		}
	}
	return fmt.Errorf("cannot get image %s: %w", o.Image, errors.Join(errs...))
}

// sources are those that there are, the nearest first.
func (f Fetcher) sources(o cluster.Order) (all []source) {
	if f.File != "" && o.Image == f.Image {
		all = append(all, source{"file " + f.File, func(context.Context) (io.ReadCloser, error) { return os.Open(f.File) }})
	}
	if f.Dial != nil {
		for _, host := range slices.Sorted(maps.Keys(o.From)) {
			all = append(all, source{"host " + host, func(ctx context.Context) (io.ReadCloser, error) {
				return get(ctx, "http://"+host+"/images/"+o.Image, func(ctx context.Context) (net.Conn, error) {
					return f.Dial(ctx, host, o.From[host])
				})
			}})
		}
	}
	if f.Artifacts != "" {
		url := f.Artifacts + "image-" + strings.TrimPrefix(o.Image, "sha256:") + ".tar"
		all = append(all, source{url, func(ctx context.Context) (io.ReadCloser, error) { return get(ctx, url, nil) }})
	}
	return all
}

// from gets an image from one source.
func (f Fetcher) from(ctx context.Context, s source, image string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	timer := time.AfterFunc(stall, func() {
		cancel(fmt.Errorf("nothing came for %v", stall))
		body.Close()
	})
	defer timer.Stop()
	if err := f.Engine.Load(ctx, io.LimitReader(moving{body, timer}, maxArchive)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	has, err := f.Engine.HasImage(ctx, image)
	if err == nil && !has {
		err = errors.New("what came is another image")
	}
	return err
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

// get gets a file by HTTP; dial connects, if it is not to be by the URL.
func get(ctx context.Context, url string, dial func(context.Context) (net.Conn, error)) (io.ReadCloser, error) {
	transport := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: stall, TLSHandshakeTimeout: 10 * time.Second}
	if dial != nil {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return nil, fmt.Errorf("it answers %s: %s", resp.Status, strings.TrimSpace(string(said)))
	}
	return resp.Body, nil
}
