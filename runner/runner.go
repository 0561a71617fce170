package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
)

// Options says where a runner finds its neighbours. In the jail they are
// /functions and /cell.
type Options struct {
	Functions string       // directory of function records
	Cell      string       // directory of the cell's sockets
	Agent     string       // the agent's socket, to wake and to sleep by; empty: the cell is always there
	Logs      Logs         // for what the tenant's code prints; nil: nobody asks for it
	Log       *slog.Logger // for what no caller is told; required
}

// Runner serves one instance of one tenant.
type Runner struct {
	opts Options
	cell *cell
	ctx  context.Context // ends when the runner closes
	stop context.CancelFunc
	work sync.WaitGroup // goroutines that the runner started

	booking sync.Mutex // held while the book is written

	mu        sync.Mutex
	config    cluster.RunnerConfig
	gate      *Gate
	counts    counts
	line      line
	book      *book // nil: the agent has given none
	functions functions
	processes map[string]*process   // current ones, by function
	live      map[*process]struct{} // these, and those that are leaving
	crashes   map[string]*crashes   // of functions whose processes have died
	held      int                   // bytes kept for processes that are not there yet
	inbounds  map[*inbound]struct{}
	calls     int // in flight
	draining  bool
	drained   chan struct{}
	left      chan struct{} // closed when we drain and nobody is connected any more
	dirty     []*link       // connections with something queued
	listeners []net.Listener
	rest      rest
	load      load
	keeper    *keeper // nil: nobody asks for logs
}

// New makes a runner for a tenant. It fails when a key can't be used.
func New(config cluster.RunnerConfig, opts Options) (*Runner, error) {
	ctx, stop := context.WithCancel(context.Background())
	r := &Runner{
		opts: opts, cell: &cell{waker: newWaker(opts.Agent, opts.Cell)}, ctx: ctx, stop: stop,
		functions: functions{dir: opts.Functions},
		processes: map[string]*process{}, live: map[*process]struct{}{}, crashes: map[string]*crashes{}, inbounds: map[*inbound]struct{}{},
		drained: make(chan struct{}), left: make(chan struct{}), rest: rest{since: time.Now()},
	}
	r.cell.waker.idle, r.cell.waker.bed = r.sleepIfIdle, r.bed
	r.cell.event = r.told
	if r.keeper = newKeeper(opts.Logs); r.keeper != nil {
		r.cell.logs = true
		go r.keeper.run(ctx) // which may hang in a journal that does
	}
	if err := r.configure(config); err != nil {
		stop()
		return nil, err
	}
	return r, nil
}

// configure puts keys and limits in force, for requests from now on; r.mu is
// held, or nobody else has r yet.
func (r *Runner) configure(config cluster.RunnerConfig) error {
	gate, err := NewGate(config.Tenant, config.Keys)
	if err != nil {
		return err
	}
	if r.config.Tenant != "" && config.Tenant != r.config.Tenant {
		return fmt.Errorf("cannot turn the runner of tenant %q into one of %q", r.config.Tenant, config.Tenant)
	}
	gate.Revoke(config.Revoked)
	r.counts.configure(config.Limits)
	r.config, r.gate = config, gate
	r.functions.forget()
	return nil
}

// Serve takes connections until the listener is closed, which Drain and Close
// leave to the caller: under socket activation the listener outlives us. A
// runner that goes to sleep closes it itself: it is to be drained and to end,
// and what connects from then on waits at the socket for the next.
func (r *Runner) Serve(ln net.Listener) error {
	r.openBook()
	r.mu.Lock()
	r.listening(ln)
	r.watchRest()
	r.mu.Unlock()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) || r.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.awaitResume()
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot accept: %w", err)
		}
		r.work.Go(func() { r.serveInbound(c) })
	}
}

// Drain refuses new requests, so that proxies send them elsewhere or to our
// successor, and waits until those in flight are answered or ctx ends.
func (r *Runner) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.startDraining()
	r.mu.Unlock()
	upgraded := time.AfterFunc(upgradeDrain, r.endUpgraded)
	defer upgraded.Stop()
	select {
	case <-r.drained:
	case <-ctx.Done():
		return fmt.Errorf("cannot drain in time: %w", context.Cause(ctx))
	}
	// Proxies close when they have seen that we go (docs/frames.md). What they
	// sent before that we have refused by then, and they ask elsewhere.
	select {
	case <-r.left:
	case <-time.After(leaveTime):
	case <-ctx.Done():
	}
	return nil
}

// leaveTime is how long a drained runner waits for proxies to close.
const leaveTime = 2 * time.Second

// startDraining refuses new requests; r.mu is held.
func (r *Runner) startDraining() {
	r.draining = true
	r.goAway()
	if r.calls == 0 && !r.rest.resting {
		r.closeDrained()
	}
	if len(r.inbounds) == 0 {
		r.closeLeft()
	}
	r.flush()
}

// closeLeft says that no proxy is connected any more; r.mu is held.
func (r *Runner) closeLeft() {
	select {
	case <-r.left:
	default:
		close(r.left)
	}
}

// upgradeDrain is how long upgraded requests may go on while the runner drains:
// nothing tells their two ends that it does, and they end by nothing else.
const upgradeDrain = 10 * time.Second

// endUpgraded ends the requests that are raw bytes by now.
func (r *Runner) endUpgraded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for in := range r.inbounds {
		for _, c := range in.calls {
			if c.upgraded {
				r.queue(in.link, func(dst []byte) []byte {
					return frames.AppendReset(dst, c.id, frames.CodeGone, "its runner is ending")
				})
				c.abandon(frames.CodeCancelled, "its runner is ending")
			}
		}
	}
	r.flush()
}

func (r *Runner) closeDrained() {
	select {
	case <-r.drained:
	default:
		close(r.drained)
	}
}

// Close ends every connection and waits for the runner's goroutines.
func (r *Runner) Close() {
	r.closeBook()
	r.stop()
	r.cell.close()
	r.mu.Lock()
	if r.rest.timer != nil {
		r.rest.timer.Stop()
	}
	for in := range r.inbounds {
		in.link.Close()
	}
	for p := range r.live {
		p.hangUp()
	}
	r.mu.Unlock()
	r.work.Wait()
}

// link is a connection and whether it is among the dirty ones.
type link struct {
	*frames.Conn
	dirty bool
}

// queue puts frames on a connection, to leave with the next flush; r.mu is
// held.
func (r *Runner) queue(l *link, encode func([]byte) []byte) error {
	if err := l.Queue(encode); err != nil {
		return err
	}
	if !l.dirty {
		l.dirty = true
		r.dirty = append(r.dirty, l)
	}
	return nil
}

// flush sends what has been queued on every connection; r.mu is held. Frames
// that arrived together leave together.
func (r *Runner) flush() {
	for i, l := range r.dirty {
		l.dirty = false
		l.Flush()
		r.dirty[i] = nil
	}
	r.dirty = r.dirty[:0]
}
