package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"bulkhead/agent/egress/egresstest"
)

// insideFlag says that we are the bench within a world's host, and where its
// resolv.conf is.
const insideFlag = "inside"

// stage is what a world wants of a test: a place to fail, and to clean up.
type stage struct {
	testing.TB // nil: a world uses what follows, and no more
	dir        string
	cleanups   []func()
	failed     error
}

func (s *stage) Helper()           {}
func (s *stage) Cleanup(f func())  { s.cleanups = append(s.cleanups, f) }
func (s *stage) TempDir() string   { return s.dir }
func (s *stage) Fatal(args ...any) { s.failed = errors.New(fmt.Sprint(args...)); runtime.Goexit() }
func (s *stage) Skip(args ...any)  { s.Fatal(args...) }

func (s *stage) close() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
	os.RemoveAll(s.dir)
}

// newWorld makes a host with nothing around it but an Internet that answers.
func newWorld() (s *stage, w *egresstest.World, err error) {
	dir, err := os.MkdirTemp("", "bulkhead-bench-world-")
	if err != nil {
		return nil, nil, err
	}
	s = &stage{dir: dir}
	done := make(chan struct{})
	go func() { // Fatal ends it
		defer close(done)
		w = egresstest.New(s)
	}()
	<-done
	if s.failed != nil {
		s.close()
		return nil, nil, fmt.Errorf("cannot make a world to attack: %w", s.failed)
	}
	return s, w, nil
}

// enact runs a section in a world's host: what its clusters let out stays on
// this machine.
func enact(ctx context.Context, p plan, section string) error {
	s, w, err := newWorld()
	if err != nil {
		return err
	}
	defer s.close()
	// Whoever asks is elsewhere: that this program waits for a core is nothing
	// that a tenant suffers. The cluster is niced back.
	cmd := exec.CommandContext(ctx, "nice", "-n", "-20", "nsenter", "--net="+w.HostPath(), os.Args[0], "-"+insideFlag, w.Resolv,
		"-rounds", fmt.Sprint(p.rounds), "-seconds", fmt.Sprint(p.seconds), "-only", p.only, section)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}
