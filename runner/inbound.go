package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
)

// inbound is a connection from a proxy, or from the agent, and the requests
// that came over it.
type inbound struct {
	r     *Runner
	conn  net.Conn
	link  *link
	calls map[uint32]*call
	agent bool // said HELLO as the agent, and is root
}

func (r *Runner) serveInbound(c net.Conn) {
	in := &inbound{r: r, conn: c, link: &link{Conn: frames.NewConn(c, "runner")}, calls: map[uint32]*call{}}
	r.mu.Lock()
	if r.ctx.Err() != nil {
		r.mu.Unlock()
		c.Close()
		return
	}
	r.inbounds[in] = struct{}{}
	if r.draining { // it came with the last; what it asks is refused
		in.goAway()
		r.flush()
	}
	r.mu.Unlock()
	err := in.link.Serve(in)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inbounds, in)
	r.partedIf(len(r.inbounds) == 0)
	if r.draining && len(r.inbounds) == 0 {
		r.closeLeft()
	}
	for _, c := range in.calls {
		c.abandon(frames.CodeCancelled, "the proxy has gone")
	}
	r.flush()
	if err != nil && r.ctx.Err() == nil {
		r.opts.Log.Warn("connection ended", "error", err)
	}
}

// Idle sends what the last frames led to.
func (in *inbound) Idle() {
	in.r.mu.Lock()
	in.r.flush()
	in.r.mu.Unlock()
}

// Frame takes a frame from the proxy.
func (in *inbound) Frame(f frames.Frame) error {
	r := in.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch f.Type {
	case frames.TypeHello:
		return in.hello(f.Payload)
	case frames.TypeRequest:
		if in.calls[f.Stream] != nil {
			return fmt.Errorf("%w: REQUEST on stream %d, which is open", frames.ErrProtocol, f.Stream)
		}
		req, err := frames.ParseRequest(f.Payload)
		if err != nil {
			return err
		}
		if in.agent {
			return in.reload(req, f)
		}
		r.begin(in, f, req)
		return nil
	}
	if c := in.calls[f.Stream]; c != nil {
		c.fromProxy(f)
	}
	return nil
}

// hello lets only root be the agent.
func (in *inbound) hello(payload []byte) error {
	role, err := frames.ParseHello(payload)
	if err != nil || role == "proxy" {
		return err
	}
	if role != "agent" {
		return fmt.Errorf("%w: a runner serves proxies and the agent, not a %s", frames.ErrProtocol, role)
	}
	uid, err := peerUID(in.conn)
	if err == nil && uid != 0 {
		err = fmt.Errorf("%w: uid %d says that it is the agent; only root may", frames.ErrProtocol, uid)
	}
	in.agent = err == nil
	return err
}

// peerUID returns the user at the other end of a unix socket.
func peerUID(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var got error
	err = raw.Control(func(fd uintptr) { cred, got = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, got); err != nil {
		return 0, fmt.Errorf("cannot tell who connected: %w", err)
	}
	return cred.Uid, nil
}

// reload takes in what the agent changed: PUT /reload, whose body is the new
// RunnerConfig, or empty when only functions changed. The answer's body is a
// cluster.RunnerAnswer.
func (in *inbound) reload(req frames.Request, f frames.Frame) error {
	r := in.r
	refusal := r.applyReload(req, f.End)
	return r.queue(in.link, func(dst []byte) []byte {
		if refusal != nil {
			return refusal.appendFrame(dst, f.Stream, "")
		}
		head := frames.Response{Status: 200, Fields: frames.NoFields, Headers: frames.AppendHeaderCount(nil)}.AppendHead(nil)
		body, _ := json.Marshal(cluster.RunnerAnswer{Revoked: len(r.config.Revoked)})
		return frames.Append(dst, frames.Frame{Type: frames.TypeResponse, End: true, Stream: f.Stream, Payload: append(head, body...)})
	})
}

func (r *Runner) applyReload(req frames.Request, whole bool) *Refusal {
	if string(req.Method) != "PUT" || string(req.Target) != "/reload" || !whole {
		return refuse(404, "unknown_request", "an agent sends PUT /reload, in one frame")
	}
	if len(req.Body) == 0 {
		r.functionsChanged()
		return nil
	}
	var config cluster.RunnerConfig
	if err := json.Unmarshal(req.Body, &config); err != nil {
		return refuse(400, "bad_config", "cannot read the configuration: %v", err)
	}
	if err := r.configure(config); err != nil {
		return refuse(400, "bad_config", "cannot apply the configuration: %v", err)
	}
	r.restAnew()
	r.functionsChanged()
	return nil
}

// functionsChanged lets processes go whose function is gone, or has another
// version or other limits now.
func (r *Runner) functionsChanged() {
	r.functions.forget()
	for name, p := range r.processes {
		record := &cluster.Function{Version: p.version}
		if name[0] != '~' {
			record, _ = r.functions.get(r.config.Tenant, name)
		}
		if record == nil || record.Version != p.version || *r.watched(record) != *p.limits {
			r.retire(p)
		}
	}
}
