package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/agent/cells"
	"bulkhead/agent/orders"
	"bulkhead/cluster"
	"bulkhead/internal/allot"
	"bulkhead/internal/etcd"
)

// Agent makes one host's placements run. Make it with New.
type Agent struct {
	cfg      Config
	book     *book
	cells    *cells.Cells
	network  network
	loads    *loads
	observer *observer
	executor *executor
	presence *etcd.Presence
	orders   *orders.Orders
	stocked  atomic.Bool
	image    atomic.Pointer[string] // of blank cells

	lives   map[string]*life // by instance
	doorsMu sync.Mutex
	doors   map[string]*door // by instance
	changes chan func()      // what watches and workers bring to the loop
	poked   chan struct{}    // a cell was taken
	room    chan struct{}    // a place for each worker
	work    sync.WaitGroup   // watches and workers
	ready   chan struct{}    // closed after the first round
	blind   bool             // containers can't be seen
	known   bool             // etcd, or our patience with it, has spoken
}

// New makes an agent. It fails when the configuration lacks something or the
// host's directories can't be made or read.
func New(c Config) (*Agent, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	p := c.Host.Paths
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{p.Run, 0o711}, {instancesDir(p), 0o711}, {p.State, 0o711}} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return nil, fmt.Errorf("cannot make agent: %w", err)
		}
	}
	keys := &secrets{file: c.Secrets, log: c.Log}
	keys.begin()
	c.Host.Opens = keys.opens()
	book, err := openBook(c.Host.Name, disk(filepath.Join(p.State, "desired")), keys, c.Log)
	if err != nil {
		return nil, fmt.Errorf("cannot make agent: %w", err)
	}
	uids, err := allot.Open(filepath.Join(p.State, "uids.json"), FirstUID, lastUID)
	if err != nil {
		return nil, fmt.Errorf("cannot make agent: %w", err)
	}
	a := &Agent{
		cfg: c, book: book, loads: newLoads(),
		lives: map[string]*life{}, doors: map[string]*door{},
		changes: make(chan func()), poked: make(chan struct{}, 1), room: make(chan struct{}, c.Workers), ready: make(chan struct{}),
	}
	book.modules = c.Modules
	book.reopen() // what was on disk is put together with it
	keys.notify, keys.work = a.poke, &a.work
	config := cellsConfig(c, uids)
	config.Notify, config.Room = a.poke, a.makeRoom
	a.openNetwork()
	a.useNetwork(&config)
	if a.cells, err = cells.Open(config); err != nil {
		return nil, fmt.Errorf("cannot make agent: %w", err)
	}
	if err := a.beginNetwork(); err != nil {
		return nil, fmt.Errorf("cannot make agent: %w", err)
	}
	a.observer = newObserver(p, c.Services, c.Engine, a.cells)
	a.image.Store(&c.Host.Image)
	a.orders, err = orders.New(orders.Config{
		Host: c.Host.Name, Etcd: c.Etcd, Dir: p.State, Boot: c.Host.Boot, Door: orders.Door(c.Leaving), Linger: c.Linger, Well: a.ready,
		Actions: c.Actions, Releases: c.Releases, Image: a.useImage, Log: c.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make agent: %w", err)
	}
	a.executor = &executor{paths: p, services: c.Services, cells: a.cells, log: c.Log}
	return a, nil
}

// poke has the loop look soon.
func (a *Agent) poke() {
	select {
	case a.poked <- struct{}{}:
	default:
	}
}

// Ready is closed once the agent has looked at its host for the first time,
// knowing what is desired.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Orders are what this host is told in rollouts.
func (a *Agent) Orders() *orders.Orders { return a.orders }

// Run works until ctx ends, and returns when all it started has ended. What
// runs on the host goes on; the host's presence stays until its lease runs
// out, so an agent that follows soon takes over without a gap.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	if a.network.Network != nil {
		defer a.network.Close()
	}
	defer a.work.Wait()
	defer cancel()
	defer a.closeDoors()
	if a.network.Network != nil {
		a.work.Go(func() { a.keepNetwork(ctx) })
	}
	a.work.Go(func() { a.cells.Keep(ctx) })
	a.presence = etcd.NewPresence(a.cfg.Etcd, a.cfg.TTL, cluster.HostKey(a.cfg.Host.Name))
	defer a.presence.Close()
	a.cfg.Host.Since, a.cfg.Host.Unready = time.Now().UTC(), unseen
	if err := a.present(); err != nil {
		return err
	}
	a.work.Go(func() { a.tellLoads(ctx) })
	if a.cfg.Modules != nil {
		a.work.Go(func() { a.cfg.Modules.Run(ctx, func() { a.send(ctx, a.book.reopen) }) })
	}
	a.work.Go(func() { a.awaitStock(ctx) })
	a.work.Go(func() { a.orders.Run(ctx) })
	a.follow(ctx, func(b etcd.Batch) { a.book.apply(b); a.known = true },
		cluster.HostPlacements(a.cfg.Host.Name), cluster.HostUnits(a.cfg.Host.Name),
		cluster.HostManifests(a.cfg.Host.Name), cluster.HostCopies(a.cfg.Host.Name))
	patience := time.AfterFunc(a.cfg.Patience, func() { a.send(ctx, a.goOnWithoutEtcd) })
	defer patience.Stop()
	a.loop(ctx)
	return nil
}

// present says that this host is there.
func (a *Agent) present() error {
	h := a.cfg.Host
	value, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("cannot encode host %s: %w", h.Name, err)
	}
	a.presence.Set(cluster.HostKey(h.Name), value)
	return nil
}

// goOnWithoutEtcd takes what is on disk for what is desired, when etcd hasn't
// been heard of since the start.
func (a *Agent) goOnWithoutEtcd() {
	if a.known {
		return
	}
	a.cfg.Log.Warn("etcd is away: going on with what was desired last", "instances", len(a.book.placements))
	a.known = true
}

// loop is the agent: whatever happens leads to one look at everything.
func (a *Agent) loop(ctx context.Context) {
	timer := time.NewTimer(a.cfg.Tick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case change := <-a.changes:
			change()
			a.drain()
		case <-a.cfg.Services.Events():
		case <-a.cfg.Engine.Events():
		case <-a.poked:
		case <-timer.C:
		}
		next := a.cfg.Tick
		if a.known {
			start := time.Now()
			next = a.reconcile(ctx)
			a.breathe(ctx, time.Since(start))
		}
		timer.Reset(next)
	}
}

// breathe waits as long as the last look took, so that on a host of a thousand
// instances, any of which may wake at any moment, looking takes half of a core
// at most; what comes meanwhile is seen by the next look together.
func (a *Agent) breathe(ctx context.Context, took time.Duration) {
	if took < breath {
		return
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
	}
}

// breath is how long a look may take without a rest after it.
const breath = 5 * time.Millisecond

// drain takes what else has come meanwhile, so that many changes at once cost
// one look.
func (a *Agent) drain() {
	for {
		select {
		case change := <-a.changes:
			change()
		default:
			return
		}
	}
}

// send brings a change to the loop.
func (a *Agent) send(ctx context.Context, change func()) {
	select {
	case a.changes <- change:
	case <-ctx.Done():
	}
}

// follow brings each batch of keys under prefixes to the loop until ctx ends.
func (a *Agent) follow(ctx context.Context, take func(etcd.Batch), prefixes ...string) {
	batches := etcd.Watch(ctx, a.cfg.Etcd, prefixes...)
	a.work.Go(func() {
		for b := range batches {
			a.send(ctx, func() { take(b) })
		}
	})
}

func (a *Agent) closeDoors() {
	a.doorsMu.Lock()
	doors := maps.Clone(a.doors)
	a.doorsMu.Unlock() // those that wait for a cell may want room
	for _, d := range doors {
		d.close()
	}
}
