package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"

	"bulkhead/cluster"
	"bulkhead/internal/cellctl"
)

// cell asks the container's PID 1 for processes: docs/cell.md. It connects
// when it is first asked, and again after the connection has ended.
type cell struct {
	waker *waker
	logs  bool                // wanted
	event func(cellctl.Event) // gets what the cell says unasked; it must not ask

	mu   sync.Mutex
	conn *cellConn
	dir  string // of its sockets, once there is one
}

type cellConn struct {
	net.Conn
	event   func(cellctl.Event)
	mu      sync.Mutex
	next    int64
	waiting map[int64]chan cellctl.Reply
	done    chan struct{}
}

// refusalOf is the cell's or the tenant's code's failure to serve, as an answer.
func refusalOf(e *cellctl.Error) *Refusal {
	status := e.Status
	if status < 400 || status > 599 {
		status = 503
	}
	return &Refusal{Status: status, Cause: causeOf(e.Code), Message: e.Message, Stack: e.Stack}
}

// maxLine is the longest message on the control socket, in bytes.
const maxLine = 4 << 20

var errCellGone = errors.New("the cell closed its control socket")

// serve returns the path of the socket of a process that serves the record.
func (c *cell) serve(ctx context.Context, name string, f *cluster.Function, limits *cellctl.Limits) (string, error) {
	a, err := c.ask(ctx, cellctl.Request{Op: "serve", Function: name, Version: f.Version, File: f.File, Code: f.Code, Meta: f.Meta, Secrets: f.Secrets, Limits: limits, Modules: modulesOf(f)})
	if err != nil {
		return "", err
	}
	if a.Socket != filepath.Base(a.Socket) || a.Socket == "." || a.Socket == "" {
		return "", fmt.Errorf("the cell named a socket %q", a.Socket)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return filepath.Join(c.dir, a.Socket), nil
}

// modulesOf are the packages that a function may require; nil: it has none.
func modulesOf(f *cluster.Function) *cellctl.Modules {
	if f.Modules == nil || f.Modules.At == "" {
		return nil
	}
	return &cellctl.Modules{Dir: f.Modules.At, Has: slices.Sorted(maps.Keys(f.Modules.Want))}
}

// stop lets a process finish what it has and go.
func (c *cell) stop(ctx context.Context, name, version string) error {
	_, err := c.ask(ctx, cellctl.Request{Op: "stop", Function: name, Version: version})
	return err
}

// kill ends the process behind a socket at once; the reason is what its
// inquest will say.
func (c *cell) kill(ctx context.Context, name, version, socket, reason string) error {
	_, err := c.ask(ctx, cellctl.Request{Op: "kill", Function: name, Version: version, Socket: filepath.Base(socket), Reason: reason})
	return err
}

// inquest returns how the process behind a socket ended; nil while it lives.
func (c *cell) inquest(ctx context.Context, socket string) (*cellctl.Exit, error) {
	a, err := c.ask(ctx, cellctl.Request{Op: "inquest", Socket: filepath.Base(socket)})
	return a.Exit, err
}

func (c *cell) ask(ctx context.Context, r cellctl.Request) (cellctl.Reply, error) {
	// 20 digits are left for the ID.
	if line, err := json.Marshal(r); err != nil || len(line)+20 > maxLine {
		return cellctl.Reply{}, &cellctl.Error{Status: 400, Code: "code_too_large", Message: fmt.Sprintf("the code takes %d bytes as JSON, at most %d can be handed over", len(line), maxLine)}
	}
	conn, err := c.connect(ctx, r.Op == "serve")
	if err != nil {
		return cellctl.Reply{}, err
	}
	answer := make(chan cellctl.Reply, 1)
	conn.mu.Lock()
	conn.next++
	r.ID = conn.next
	conn.waiting[r.ID] = answer
	line, err := json.Marshal(r)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	conn.mu.Unlock()
	defer func() {
		conn.mu.Lock()
		delete(conn.waiting, r.ID)
		conn.mu.Unlock()
	}()
	if err != nil {
		return cellctl.Reply{}, fmt.Errorf("cannot ask the cell: %w", err)
	}
	select {
	case a := <-answer:
		if a.Error != nil {
			return a, a.Error
		}
		return a, nil
	case <-conn.done:
		return cellctl.Reply{}, errCellGone
	case <-ctx.Done():
		return cellctl.Reply{}, context.Cause(ctx)
	}
}

// connect returns the connection to the cell. Only who wants something served
// wakes the instance for it: to ask after the processes of a cell that is gone
// must not make another.
func (c *cell) connect(ctx context.Context, wake bool) (*cellConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		select {
		case <-c.conn.done:
		default:
			return c.conn, nil
		}
	}
	if !wake && c.waker.socket != "" {
		return nil, errCellGone
	}
	dir, err := c.waker.wake(ctx)
	if err != nil {
		return nil, err
	}
	c.dir = dir
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", filepath.Join(dir, "control.sock"))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the cell: %w", err)
	}
	c.conn = &cellConn{Conn: nc, event: c.event, waiting: map[int64]chan cellctl.Reply{}, done: make(chan struct{})}
	go c.conn.read()
	if c.logs {
		// Its reply has an id that nobody waits for.
		if line, err := json.Marshal(cellctl.Request{Op: "logs"}); err == nil {
			c.conn.Write(append(line, '\n'))
		}
	}
	return c.conn, nil
}

// read hands out answers and events, in the order in which they came.
func (c *cellConn) read() {
	defer close(c.done)
	defer c.Close()
	lines := bufio.NewScanner(c)
	lines.Buffer(make([]byte, 4096), maxLine)
	for lines.Scan() {
		var e cellctl.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event != "" {
			if c.event != nil {
				c.event(e)
			}
			continue
		}
		var a cellctl.Reply
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			return
		}
		c.mu.Lock()
		if w := c.waiting[a.ID]; w != nil {
			w <- a
			delete(c.waiting, a.ID)
		}
		c.mu.Unlock()
	}
}

// close ends the connection.
func (c *cell) close() {
	c.waker.close()
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		conn.Close()
		<-conn.done
	}
}
