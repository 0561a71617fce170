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
	"path/filepath"
	"regexp"
	"time"
)

// atOnce is how many hosts get something from this one at a time.
const atOnce = 2

// sendStall is how long who gets an archive may take nothing of it.
const sendStall = time.Minute

// Giver has archives of one kind.
type Giver interface {
	// Has says whether there is one of that name.
	Has(ctx context.Context, name string) (bool, error)
	// Give writes it.
	Give(ctx context.Context, w io.Writer, name string) error
}

// Kind is what is given below one path.
type Kind struct {
	Path  string         // "images"
	Names *regexp.Regexp // of what there may be
	Giver Giver
}

// Socket is where the agent listens for other hosts that want something, in a
// directory that its proxy sees.
func Socket(run string) string { return filepath.Join(run, "images", "agent.sock") }

// Listen makes that socket, for this group.
func Listen(path string, gid int) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen for hosts that want an archive: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err == nil {
		err = errors.Join(os.Chown(path, 0, gid), os.Chmod(path, 0o660))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen for hosts that want an archive: %w", err)
	}
	return ln, nil
}

// Server gives archives to other hosts.
type Server struct {
	kinds []Kind
	log   *slog.Logger
	turns chan struct{}
}

// NewServer makes one that gives these kinds.
func NewServer(log *slog.Logger, kinds ...Kind) *Server {
	return &Server{kinds, log, make(chan struct{}, atOnce)}
}

// Serve answers on ln until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	for _, k := range s.kinds {
		mux.HandleFunc("GET /"+k.Path+"/{name}", func(w http.ResponseWriter, r *http.Request) { s.give(w, r, k) })
	}
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot give archives to other hosts: %w", err)
	}
	return nil
}

func (s *Server) give(w http.ResponseWriter, r *http.Request, k Kind) {
	name := r.PathValue("name")
	if !k.Names.MatchString(name) {
		http.Error(w, fmt.Sprintf("want a name that matches %s", k.Names), http.StatusBadRequest)
		return
	}
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	default:
		http.Error(w, fmt.Sprintf("this host gives archives to %d others already", atOnce), http.StatusServiceUnavailable)
		return
	}
	has, err := k.Giver.Has(r.Context(), name)
	if err == nil && !has {
		http.Error(w, "this host lacks that", http.StatusNotFound)
		return
	}
	out := &patient{Writer: w, control: http.NewResponseController(w)}
	if err == nil {
		err = k.Giver.Give(r.Context(), out, name)
	}
	switch {
	case err == nil:
		s.log.Info("gave an archive to another host", "of", k.Path, "name", name, "bytes", out.written)
	case out.written == 0:
		s.log.Warn("cannot give an archive to another host", "of", k.Path, "name", name, "error", err)
		http.Error(w, "this host cannot give it now", http.StatusBadGateway)
	default:
		s.log.Warn("an archive for another host was cut short", "of", k.Path, "name", name, "bytes", out.written, "error", err)
		panic(http.ErrAbortHandler) // or it would seem whole
	}
}

// patient writes as long as what is written is taken.
type patient struct {
	io.Writer
	control *http.ResponseController
	written int64
}

// Write implements [io.Writer].
func (p *patient) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(sendStall)); err != nil {
		return 0, err
	}
	n, err := p.Writer.Write(b)
	p.written += int64(n)
	return n, err
}
