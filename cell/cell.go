package cell

import (
	"context"
	"io"
	"sync"
	"time"
)

// Times that the cell keeps. Requests themselves are timed by the runner.
const (
	loadTimeout = 10 * time.Second      // for code to load, and for a spare to take it
	loadLook    = 50 * time.Millisecond // how often its CPU is looked at
	stopGrace   = 85 * time.Second      // at most, for what is in flight when a version is stopped
	quietGrace  = 30 * time.Second      // of that, without a sign that anything is in flight
	probePause  = 5 * time.Second       // between asking for such a sign
	exitGrace   = 8 * time.Second       // for all that, when the container is stopped
	pingTimeout = 100 * time.Millisecond
	leaveTime   = 250 * time.Millisecond // in which one without requests has gone
	spareDelay  = 250 * time.Millisecond // after a spare was taken: the first request goes first
	stopDelay   = 250 * time.Millisecond // for requests that wait for a version that is stopped while it loads
	inquestWait = 250 * time.Millisecond // for a process that may be dying
	keptExits   = 256
)

// Config is what a Cell needs to know.
type Config struct {
	Dir     string                // holds control.sock and the processes' sockets
	Node    string                // path of the Node binary
	Harness string                // directory of the harness
	Flags   func(Limits) []string // for node, before the harness
	Env     []string              // for node, all of it
	Cgroup  string                // root of the cgroup file system
	Limits  Limits                // LimitsFor the container's memory
	Logs    io.Writer             // the container's log
	PeerOK  func(pid, uid int) bool
	OneUser bool // processes run as the cell does, even where they could have users of their own
}

// key names what a process serves.
type key struct{ function, version string }

// slot is a function version's place: taken when a serve begins, given up when
// its process leaves.
type slot struct {
	done    chan struct{} // closed when proc or err is known
	proc    *process
	err     *Error
	stopped bool // before it served
}

// Cell owns the container's processes.
type Cell struct {
	cfg      Config
	log      *logger
	reaper   *reaper
	command  command
	dog      *watchdog
	ownUsers bool
	talking  sync.WaitGroup // control connections

	mu       sync.Mutex
	procs    map[*process]bool
	slots    map[key]*slot
	exits    map[string]Exit
	order    []string // of exits, oldest first
	conns    map[*conn]bool
	changed  chan struct{} // closed and renewed at every change of the above
	waiters  int           // serves that wait for a spare
	taken    time.Time     // when the last spare was taken
	number   int           // of processes ever started
	sockets  int           // ever made
	stopping bool
}

// Run makes the cell work until ctx is cancelled, then stops its processes,
// gracefully for exitGrace, and returns.
func Run(ctx context.Context, cfg Config) error {
	c := &Cell{
		cfg: cfg, log: newLogger(cfg.Logs, time.Now), reaper: newReaper(), ownUsers: !cfg.OneUser && ownUsers(),
		procs: map[*process]bool{}, slots: map[key]*slot{}, exits: map[string]Exit{}, conns: map[*conn]bool{},
		changed: make(chan struct{}), number: 0,
	}
	c.command = command{node: cfg.Node, harness: cfg.Harness, heap: cfg.Limits.HeapMiB, flags: cfg.Flags(cfg.Limits), env: cfg.Env}
	defer c.log.close()
	defer c.reaper.close()
	c.dog = newWatchdog(c)
	control, err := c.listenControl()
	if err != nil {
		return err
	}
	c.log.platform("the cell is up: %d MiB, %d processes of %d MiB heap at most", cfg.Limits.Memory/mib, cfg.Limits.Processes, cfg.Limits.HeapMiB)
	keeping, stopKeeping := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() { defer close(kept); c.keepSpare(keeping) }()
	accepted := make(chan struct{})
	go func() { defer close(accepted); c.accept(control) }()
	watching, stopWatching := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() { defer close(watched); c.dog.run(watching) }()
	<-ctx.Done()
	stopKeeping()
	<-kept
	c.stopAll()
	stopWatching()
	<-watched
	control.Close()
	<-accepted
	c.log.drain()
	c.closeConns()
	return nil
}

// notify wakes all that wait for a change. The lock is held.
func (c *Cell) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// count returns how many processes are in one of the states. The lock is held.
func (c *Cell) count(states ...state) int {
	n := 0
	for p := range c.procs {
		for _, s := range states {
			if p.state == s {
				n++
			}
		}
	}
	return n
}

// Stop lets a function version's process finish what is in flight and go. One
// that still loads does so a little after it serves, so that those who wait for
// it are answered; a serve that comes meanwhile gets a process of its own.
func (c *Cell) Stop(function, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key{function, version}
	if s := c.slots[k]; s != nil && s.proc == nil {
		s.stopped = true
		delete(c.slots, k)
	}
	for p := range c.procs {
		if p.function == function && p.version == version && p.state == serving {
			c.dismiss(p, stopGrace)
		}
	}
}

// stopProcess dismisses p unless it is on its way already.
func (c *Cell) stopProcess(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.state == serving {
		c.dismiss(p, stopGrace)
	}
}

// Inquest returns why the process of a socket ended; nil while it lives, and
// for sockets that never were or are long forgotten. Whoever asks has seen a
// connection end, perhaps before the cell has seen the process end, so it
// waits a little for that.
func (c *Cell) Inquest(socket string) *Exit {
	c.mu.Lock()
	var gone chan struct{}
	for p := range c.procs {
		if p.socket == socket {
			gone = p.gone
		}
	}
	c.mu.Unlock()
	if gone != nil {
		select {
		case <-gone:
		case <-time.After(inquestWait):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, ok := c.exits[socket]; ok {
		return &x
	}
	return nil
}

// stopAll ends every process: gracefully those that serve, the others at once.
func (c *Cell) stopAll() {
	c.mu.Lock()
	c.stopping = true
	var all, useless []*process
	for p := range c.procs {
		all = append(all, p)
		switch {
		case p.state == serving:
			c.dismiss(p, exitGrace)
		case p.state < serving:
			useless = append(useless, p)
		}
	}
	c.notify()
	c.mu.Unlock()
	for _, p := range useless {
		c.kill(p, "the cell is stopping")
	}
	deadline := time.After(exitGrace)
	for _, p := range all {
		select {
		case <-p.gone:
		case <-deadline:
			for _, p := range all {
				c.kill(p, "the cell is stopping")
			}
			<-p.gone
		}
	}
}
