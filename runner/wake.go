package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bulkhead/internal/cellctl"
	"bulkhead/internal/waking"
)

// waker asks the host's agent for the instance's cell (internal/waking). It
// is the runner's only word with the agent, and needed only to wake and to
// sleep: a cell that is there is used without it.
type waker struct {
	socket string           // of the agent; empty: there is none, the cell is always there
	home   string           // where the jail shows a cell that was there when we started
	idle   func()           // the agent asks us to sleep if we are idle
	bed    func(f *freezer) // gets the cell's freezer each time the cell is another
	answer chan wakeAnswer  // of the ask under way

	ask  sync.Mutex // one ask at a time
	mu   sync.Mutex
	conn *net.UnixConn
	tree *os.File // the cell's directory
}

type wakeAnswer struct {
	waking.Answer
	files []*os.File
	err   error
}

// freezer freezes and thaws a cell's processes by writing to a file.
type freezer struct {
	file         *os.File
	freeze, thaw string
}

func newWaker(socket, home string) *waker {
	return &waker{socket: socket, home: home, answer: make(chan wakeAnswer, 1), idle: func() {}, bed: func(*freezer) {}}
}

// wake returns the directory of the instance's cell, once there is one. An
// error of *cellctl.Error says that there is none to be had now.
func (w *waker) wake(ctx context.Context) (string, error) {
	if w.socket == "" {
		return w.home, nil
	}
	w.ask.Lock()
	defer w.ask.Unlock()
	a, err := w.exchange(ctx, waking.Wake)
	if err != nil {
		if _, gone := os.Stat(filepath.Join(w.home, "control.sock")); gone == nil {
			return w.home, nil // the agent is away; our cell was there when we started
		}
		return "", fmt.Errorf("cannot wake the instance: %w", err)
	}
	if a.Error != "" {
		return "", &cellctl.Error{Status: 503, Code: "host_full", Message: "the instance sleeps, and cannot be woken now: " + a.Error}
	}
	if len(a.files) != 2 {
		waking.Close(a.files)
		return "", fmt.Errorf("cannot wake the instance: the agent sent %d files, want 2", len(a.files))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tree != nil {
		w.tree.Close()
	}
	w.tree = a.files[0]
	w.bed(&freezer{file: a.files[1], freeze: a.Freeze, thaw: a.Thaw})
	return fmt.Sprintf("/proc/self/fd/%d", w.tree.Fd()), nil
}

// sleep tells the agent that the cell is not needed any more.
func (w *waker) sleep(ctx context.Context) error {
	w.ask.Lock()
	defer w.ask.Unlock()
	a, err := w.exchange(ctx, waking.Sleep)
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return err
}

// tell says something to the agent that has no answer. If the agent is away,
// nobody hears it.
func (w *waker) tell(word waking.Ask) {
	if c, err := w.connect(); err == nil {
		_ = waking.Send(c, word)
	}
}

// exchange asks the agent and waits for its answer.
func (w *waker) exchange(ctx context.Context, op string) (wakeAnswer, error) {
	c, err := w.connect()
	if err != nil {
		return wakeAnswer{}, err
	}
	select {
	case late := <-w.answer: // to an ask that was given up
		waking.Close(late.files)
	default:
	}
	if err := waking.Send(c, waking.Ask{Op: op}); err != nil {
		c.Close()
		return wakeAnswer{}, err
	}
	select {
	case a := <-w.answer:
		return a, a.err
	case <-ctx.Done():
		c.Close() // or its answer would be taken for the next one's
		return wakeAnswer{}, context.Cause(ctx)
	}
}

// connect returns the connection to the agent.
func (w *waker) connect() (*net.UnixConn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		return w.conn, nil
	}
	c, err := net.DialTimeout("unixpacket", w.socket, time.Second)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the agent: %w", err)
	}
	w.conn = c.(*net.UnixConn)
	go w.read(w.conn)
	return w.conn, nil
}

// read takes the agent's answers until the connection ends.
func (w *waker) read(c *net.UnixConn) {
	for {
		var a wakeAnswer
		if a.files, a.err = waking.Receive(c, &a.Answer); a.err == nil && a.Idle {
			w.idle()
			continue
		}
		if a.err != nil {
			w.mu.Lock()
			if w.conn == c {
				w.conn = nil
			}
			w.mu.Unlock()
			c.Close()
		}
		select {
		case w.answer <- a:
		default: // nobody asked
			waking.Close(a.files)
		}
		if a.err != nil {
			return
		}
	}
}

// close ends the connection.
func (w *waker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		w.conn.Close()
	}
}

func (f *freezer) set(frozen bool) error {
	word := f.thaw
	if frozen {
		word = f.freeze
	}
	_, err := f.file.WriteAt([]byte(word), 0)
	return err
}
