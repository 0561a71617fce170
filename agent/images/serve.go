package images

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

// atOnce is how many hosts get an image from this one at a time.
const atOnce = 2

// sendStall is how long who gets an image may take nothing of it.
const sendStall = time.Minute

// Socket is where the agent listens for other hosts that want an image, in a
// directory that its proxy sees.
func Socket(run string) string { return filepath.Join(run, "images", "agent.sock") }

// Listen makes that socket, for this group.
func Listen(path string, gid int) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen for hosts that want an image: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err == nil {
		err = errors.Join(os.Chown(path, 0, gid), os.Chmod(path, 0o660))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen for hosts that want an image: %w", err)
	}
	return ln, nil
}

// Server gives images to other hosts.
type Server struct {
	engine Engine
	log    *slog.Logger
	turns  chan struct{}
}

// NewServer makes one that takes images from an engine.
func NewServer(engine Engine, log *slog.Logger) *Server {
	return &Server{engine, log, make(chan struct{}, atOnce)}
}

// Serve answers on ln until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images/{id}", s.give)
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot give images to other hosts: %w", err)
	}
	return nil
}

var imageID = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (s *Server) give(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !imageID.MatchString(id) {
		http.Error(w, "want the ID of an image, sha256:…", http.StatusBadRequest)
		return
	}
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	default:
		http.Error(w, fmt.Sprintf("this host gives images to %d others already", atOnce), http.StatusServiceUnavailable)
		return
	}
	has, err := s.engine.HasImage(r.Context(), id)
	if err == nil && !has {
		http.Error(w, "this host lacks that image", http.StatusNotFound)
		return
	}
	var archive io.ReadCloser
	if err == nil {
		archive, err = s.engine.Save(r.Context(), id)
	}
	if err != nil {
		s.log.Warn("cannot give an image to another host", "image", id, "error", err)
		http.Error(w, "this host's Docker does not give the image", http.StatusBadGateway)
		return
	}
	defer archive.Close()
	n, err := io.Copy(patient{w, http.NewResponseController(w)}, archive)
	if err != nil {
		s.log.Warn("an image for another host was cut short", "image", id, "bytes", n, "error", err)
		panic(http.ErrAbortHandler) // or it would seem whole
	}
	s.log.Info("gave an image to another host", "image", id, "bytes", n)
}

// patient writes as long as what is written is taken.
type patient struct {
	io.Writer
	control *http.ResponseController
}

// Write implements [io.Writer].
func (p patient) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(sendStall)); err != nil {
		return 0, err
	}
	return p.Writer.Write(b)
}
