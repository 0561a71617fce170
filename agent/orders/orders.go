package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// Actions runs what the host's own configuration declares.
type Actions interface {
	// Actions are the names of those that there are.
	Actions(ctx context.Context) ([]string, error)
	// StartAction begins one. One that runs is begun anew.
	StartAction(ctx context.Context, name string) error
	// ActionSince says whether one runs, or has run since then.
	ActionSince(ctx context.Context, name string, since time.Time) (bool, error)
	// AwaitAction waits until one that was begun has ended, and returns how. On
	// a host that is shutting down it returns when ctx ends.
	AwaitAction(ctx context.Context, name string) error
}

// Releases installs what the host runs of Bulkhead itself.
type Releases interface {
	// Current is the digest of the release that runs.
	Current() string
	// Install puts a release in the place of the one that is there.
	Install(ctx context.Context, digest string) error
	// Restart has what runs be of the installed release, ourselves last. It
	// returns before we are.
	Restart(ctx context.Context) error
	// Proved is closed once the release that runs won't be taken back any more.
	Proved() <-chan struct{}
	// TakenBack is why a release was taken back that was installed last; empty
	// if it wasn't.
	TakenBack(digest string) string
}

// Config is what Orders need.
type Config struct {
	Host string
	Etcd *clientv3.Client // stays the caller's to close
	Dir  string           // where it is kept how far an order has come
	Boot string           // changes with every boot: facts.Boot
	Door Door
	// Linger is how long the proxy goes on serving once it says that it is
	// leaving, so that balancers notice.
	Linger time.Duration
	// Well is closed once the host is as it should be; until then a proxy that
	// was leaving is.
	Well     <-chan struct{}
	Actions  Actions
	Releases Releases // nil: there are none here
	// Image has new instances run an image, which it gets from wherever the
	// order says if this host lacks it.
	Image func(ctx context.Context, o cluster.Order) error
	Log   *slog.Logger
}

// Orders are those of one host. Make it with New.
type Orders struct {
	cfg  Config
	file file
	tell *teller

	mu      sync.Mutex
	state   state
	heard   bool          // what the order in force is, from etcd
	changed chan struct{} // closed and replaced when the order in force is another
}

// New reads how far the last order had come.
func New(c Config) (*Orders, error) {
	o := &Orders{cfg: c, file: file(filepath.Join(c.Dir, "order.json")), changed: make(chan struct{})}
	o.tell = newTeller(c.Etcd, cluster.ReportKey(c.Host), c.Log)
	var err error
	if o.state, err = o.file.load(); err != nil {
		return nil, err
	}
	return o, nil
}

// Current is the order in force, with an empty ID when there is none, and
// whether etcd has said so since the start. The channel is closed when that
// changes.
func (o *Orders) Current() (order cluster.Order, heard bool, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state.Order, o.heard, o.changed
}

// Run carries out orders until ctx ends. Nothing is done before etcd has said
// which order is in force; meanwhile the proxy goes on as it was.
func (o *Orders) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { o.tell.run(ctx) })
	at := func() {} // ends whoever is at an order
	for b := range etcd.Follow(ctx, o.cfg.Etcd, etcd.Prefix{Name: cluster.OrderKey(o.cfg.Host), Exact: true}) {
		order, err := latest(b)
		if err != nil {
			o.cfg.Log.Warn("invalid order, the last good one stays in force", "error", err)
			continue
		}
		if !o.take(order) {
			continue
		}
		at()
		at = o.start(ctx, &work)
	}
	at()
}

// latest is the order that a batch leaves in force; an empty one is none.
func latest(b etcd.Batch) (cluster.Order, error) {
	var order cluster.Order
	if len(b.Events) == 0 || b.Events[len(b.Events)-1].Deleted {
		return order, nil
	}
	last := b.Events[len(b.Events)-1]
	if err := json.Unmarshal(last.Value, &order); err != nil {
		return order, fmt.Errorf("cannot decode %s: %w", last.Key, err)
	}
	if order.ID == "" {
		return order, errors.New("an order without an ID could not be told from the next")
	}
	return order, nil
}

// take makes order the one in force, and says whether somebody has to see to
// it: not if somebody does.
func (o *Orders) take(order cluster.Order) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	same := order.ID == o.state.Order.ID
	if same && o.heard {
		return false
	}
	o.heard = true
	if !same {
		o.state = state{}
		if order.ID != "" {
			o.state = begin(order, o.cfg.Boot, time.Now().UTC())
			o.cfg.Log.Info("an order has come", "order", order.ID, "leave", order.Leave, "granted", order.Granted, "action", order.Action, "image", order.Image, "release", order.Release)
		}
	}
	close(o.changed)
	o.changed = make(chan struct{})
	return true
}

// start has somebody see to the order in force, and returns what ends that.
func (o *Orders) start(ctx context.Context, work *sync.WaitGroup) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	work.Go(func() {
		defer close(done)
		o.see(ctx)
	})
	return func() { cancel(); <-done }
}

func (o *Orders) now() state {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

// keep keeps how far the order has come.
func (o *Orders) keep(change func(*state)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.state)
	o.state.Report.Time = time.Now().UTC()
	if err := o.file.save(o.state); err != nil {
		return err
	}
	if o.state.Order.ID != "" {
		o.tell.say(o.state.Report)
	}
	return nil
}
