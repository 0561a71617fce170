package cell

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ControlSocket is the file in the cell's directory where the runner asks.
const ControlSocket = "control.sock"

// maxRequest is the longest line that the runner may send, in bytes.
const maxRequest = 4 << 20

// conn is one control connection. Lines leave through a queue; a runner that
// does not read them loses its connection, not the cell its time.
type conn struct {
	c      *net.UnixConn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func (k *conn) close() { k.once.Do(func() { close(k.closed); k.c.Close() }) }

func (k *conn) send(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	select {
	case k.out <- append(b, '\n'):
	case <-k.closed:
	default:
		k.close()
	}
}

func (c *Cell) listenControl() (*net.UnixListener, error) {
	if err := c.clearSockets(); err != nil {
		return nil, err
	}
	path := filepath.Join(c.cfg.Dir, ControlSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace the control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the runner: %w", err)
	}
	return l, os.Chmod(path, 0o666)
}

// clearSockets removes the sockets of a cell that was killed in this directory,
// and counts on from them, so that no name is used for two processes.
func (c *Cell) clearSockets() error {
	stale, err := filepath.Glob(filepath.Join(c.cfg.Dir, "*.*.sock"))
	if err != nil {
		return err
	}
	for _, path := range stale {
		name := strings.TrimSuffix(filepath.Base(path), ".sock")
		if dot := strings.LastIndexByte(name, '.'); len(name)-dot > 16 { // its secret
			name = name[:dot]
		}
		if n, err := strconv.Atoi(name[strings.LastIndexByte(name, '.')+1:]); err == nil {
			c.sockets = max(c.sockets, n)
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("cannot remove a dead socket: %w", err)
		}
	}
	return nil
}

func (c *Cell) accept(l *net.UnixListener) {
	for {
		u, err := l.AcceptUnix()
		if err != nil {
			return
		}
		if pid, uid, err := peer(u); err != nil || !c.cfg.PeerOK(pid, uid) {
			c.log.platform("a control connection from inside the container was refused (pid %d, uid %d)", pid, uid)
			u.Close()
			continue
		}
		k := &conn{c: u, out: make(chan []byte, 64), closed: make(chan struct{})}
		c.mu.Lock()
		c.conns[k] = true
		c.mu.Unlock()
		c.talking.Go(k.write)
		c.talking.Go(func() { c.converse(k) })
	}
}

// peer tells who connected: the pid is 0 when it is outside our pid namespace.
func peer(u *net.UnixConn) (pid, uid int, err error) {
	raw, err := u.SyscallConn()
	if err != nil {
		return -1, -1, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return -1, -1, e
	}
	if err != nil {
		return -1, -1, err
	}
	return int(cred.Pid), int(cred.Uid), nil
}

func (k *conn) write() {
	for {
		select {
		case line := <-k.out:
			if _, err := k.c.Write(line); err != nil {
				k.close()
				return
			}
		case <-k.closed:
			return
		}
	}
}

// converse answers a connection's requests, each as soon as it can.
func (c *Cell) converse(k *conn) {
	ctx, cancel := context.WithCancel(context.Background())
	var pending sync.WaitGroup
	lines := bufio.NewScanner(k.c)
	lines.Buffer(make([]byte, 0, 4096), maxRequest)
	for lines.Scan() {
		var req Request
		if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
			k.send(Reply{ID: req.ID, Error: &Error{Status: 400, Code: "bad_request", Message: "cannot read the request: " + err.Error()}})
			continue
		}
		answer := c.begin(k, req)
		pending.Go(func() { k.send(answer(ctx)) })
	}
	cancel()
	pending.Wait()
	c.log.dismiss(k)
	c.mu.Lock()
	delete(c.conns, k)
	c.mu.Unlock()
	k.close()
}

// begin takes a request up, in the order in which they came; what it returns
// waits for the answer.
func (c *Cell) begin(k *conn, req Request) func(context.Context) Reply {
	switch req.Op {
	case "serve":
		wait := c.Serve(req)
		return func(ctx context.Context) Reply { return servedReply(ctx, req.ID, wait) }
	case "stop":
		c.Stop(req.Function, req.Version)
		return func(context.Context) Reply { return Reply{ID: req.ID} }
	case "kill":
		wait := c.Kill(req)
		return func(ctx context.Context) Reply { wait(ctx); return Reply{ID: req.ID} }
	case "status":
		spares, all := c.Status()
		return func(context.Context) Reply {
			return Reply{ID: req.ID, Spares: spares, Processes: all, Busy: c.busy(), Interfaces: interfaces()}
		}
	case "inquest":
		return func(context.Context) Reply { return Reply{ID: req.ID, Exit: c.Inquest(req.Socket)} }
	case "limit":
		err := c.Limit(req.Memory)
		return func(context.Context) Reply { return Reply{ID: req.ID, Error: err} }
	case "tell":
		c.log.platform("%s", cut(req.Message, maxMessage))
		return func(context.Context) Reply { return Reply{ID: req.ID} }
	case "logs":
		if c.log.assign(k) {
			c.talking.Go(func() { c.sendLogs(k) })
		}
		return func(context.Context) Reply { return Reply{ID: req.ID} }
	}
	e := &Error{Status: 400, Code: "bad_request", Message: fmt.Sprintf("unknown op %q: want serve, stop, kill, status, inquest, limit, logs or tell", cut(req.Op, 64))}
	return func(context.Context) Reply { return Reply{ID: req.ID, Error: e} }
}

// interfaces are the network interfaces there are but loopback.
func interfaces() (n int) {
	all, _ := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			n++
		}
	}
	return n
}

func servedReply(ctx context.Context, id int64, wait func(context.Context) (Status, error)) Reply {
	s, err := wait(ctx)
	var e *Error
	if errors.As(err, &e) {
		return Reply{ID: id, Error: e}
	}
	return Reply{ID: id, Socket: s.Socket, PID: s.PID}
}

// Status returns how many spares are ready and what is being served.
func (c *Cell) Status() (spares int, processes []Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.procs {
		if p.state == serving {
			processes = append(processes, p.status())
		}
	}
	return c.count(spare), processes
}

// broadcast sends an event to every connection. The lock is held.
func (c *Cell) broadcast(e Event) {
	for k := range c.conns {
		k.send(e)
	}
}

// closeConns ends every control connection and waits until that is done.
func (c *Cell) closeConns() {
	c.mu.Lock()
	for k := range c.conns {
		k.close()
	}
	c.mu.Unlock()
	c.talking.Wait()
}
