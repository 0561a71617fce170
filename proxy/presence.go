package proxy

import (
	"container/list"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/internal/frames"
)

// lookEvery is how often requests in flight are looked at for a client that
// has gone. A request answered sooner is never looked at.
const lookEvery = time.Second

// presence notices that the client of a request in flight has gone, so that
// its function does not go on for nobody: fasthttp reads a connection only
// between requests.
type presence struct {
	mu    sync.Mutex
	waits list.List // of *waiting, oldest first
	stop  chan struct{}
	done  chan struct{}
}

type waiting struct {
	conn   net.Conn
	stream *frames.Stream
	since  time.Time
	gone   bool
}

func newPresence() *presence {
	p := &presence{stop: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

// add watches a stream's client until remove.
func (p *presence) add(c net.Conn, s *frames.Stream, now time.Time) *list.Element {
	w := &waiting{conn: c, stream: s, since: now}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits.PushBack(w)
}

// remove ends the watch and reports whether the client was found gone. The
// stream is not touched afterwards.
func (p *presence) remove(e *list.Element) (gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits.Remove(e).(*waiting).gone
}

func (p *presence) run() {
	defer close(p.done)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.look(now)
		case <-p.stop:
			return
		}
	}
}

func (p *presence) look(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.waits.Front(); e != nil; e = e.Next() {
		w := e.Value.(*waiting)
		if now.Sub(w.since) < lookEvery {
			return
		}
		if !w.gone && hungUp(w.conn) {
			w.gone = true
			w.stream.Reset(frames.CodeCancelled, "the client has gone")
		}
	}
}

func (p *presence) close() {
	close(p.stop)
	<-p.done
}

// hungUp reports whether the other end of a connection is closed, or closed for
// sending: no client does that and waits.
func hungUp(c net.Conn) bool {
	for {
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		// Not by reading: what the client sent before it left may lie there.
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(p, 0)
		gone = err == nil && p[0].Revents != 0
	})
	return gone || err != nil
}
