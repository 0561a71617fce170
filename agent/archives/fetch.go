package archives

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// stall is how long a source may send nothing. Docker writes the whole
	// archive to its disk before the first byte.
	stall = time.Minute
	// rounds is how often every source is tried, and between how long to wait:
	// those that have it may be giving it to others.
	rounds  = 5
	between = 5 * time.Second
)

// Dial connects to another host's agent.
type Dial func(ctx context.Context, host, address string) (net.Conn, error)

// Source is where an archive may be had.
type Source struct {
	Name string
	Open func(context.Context) (io.ReadCloser, error)
}

// File is a file on this host.
func File(path string) Source {
	return Source{"file " + path, func(context.Context) (io.ReadCloser, error) { return os.Open(path) }}
}

// URL is a file that is to be had by HTTP.
func URL(url string) Source {
	return Source{url, func(ctx context.Context) (io.ReadCloser, error) { return get(ctx, url, nil) }}
}

// Host is another host's agent; address is its proxy's, path names what is wanted.
func Host(host, address, path string, dial Dial) Source {
	return Source{"host " + host, func(ctx context.Context) (io.ReadCloser, error) {
		return get(ctx, "http://"+host+path, func(ctx context.Context) (net.Conn, error) { return dial(ctx, host, address) })
	}}
}

// Fetch has take read what is wanted from one source after the other, until it
// takes it. The error says of each source why it was not from there.
func Fetch(ctx context.Context, what string, all []Source, take func(context.Context, io.Reader) error, log *slog.Logger) error {
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
			err := from(ctx, s, take)
			if err == nil {
				log.Info("got "+what, "from", s.Name, "took", time.Since(begun).Round(time.Millisecond))
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			log.Warn("not from there: "+what, "from", s.Name, "error", err)
			errs = append(errs, fmt.Errorf("from %s: %w", s.Name, err))
		}
	}
	return fmt.Errorf("cannot get %s: %w", what, errors.Join(errs...))
}

// from reads one source.
func from(ctx context.Context, s Source, take func(context.Context, io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	timer := time.AfterFunc(stall, func() {
		cancel(fmt.Errorf("nothing came for %v", stall))
		body.Close()
	})
	defer timer.Stop()
	err = take(ctx, moving{body, timer})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
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
