package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd/etcdmem"
	"bulkhead/scheduler"
)

// size says how large a world is, and how long it lasts.
type size struct {
	hosts, tenants, schedulers int
	last                       time.Duration
}

// world is a cluster under simulation, and what its operator wants.
type world struct {
	t        *testing.T
	size     size
	begun    time.Time
	rng      *rand.Rand // what happens, and when; the main goroutine's
	noise    *noise     // how long things take
	store    *etcdmem.Store
	check    *checker
	hosts    []*host
	brains   []*brain
	operator *clientv3.Client
	tenants  map[string]*wanted
	down     bool     // etcd
	rollouts []string // that were begun
	powered  plugs
	log      *slog.Logger
	story    []string // what was done to it
}

// wanted is what the operator has asked for.
type wanted struct {
	spec      cluster.Spec
	functions map[string]int64 // revision
}

// noise is randomness that many goroutines share.
type noise struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (n *noise) between(low, high time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return low + time.Duration(n.rng.Int64N(int64(high-low)+1))
}

func (n *noise) one(of int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rng.IntN(of) == 0
}

// faults are those of every connection to etcd.
func (n *noise) faults() etcdmem.Faults {
	return etcdmem.Faults{
		Delay: func() time.Duration {
			if n.one(200) {
				return n.between(100*time.Millisecond, 2*time.Second)
			}
			return n.between(0, 3*time.Millisecond)
		},
		Lose: func() bool { return n.one(500) },
		Late: func() time.Duration {
			if n.one(150) {
				return n.between(time.Second, 40*time.Second)
			}
			return 0
		},
	}
}

func newWorld(t *testing.T, seed uint64, s size, log *slog.Logger) *world {
	w := &world{
		t: t, size: s, begun: time.Now(), rng: rand.New(rand.NewPCG(seed, 1)), noise: &noise{rng: rand.New(rand.NewPCG(seed, 2))},
		store: etcdmem.New(), tenants: map[string]*wanted{}, log: log,
	}
	w.powered.by = map[*host]time.Time{}
	w.check = newChecker(w)
	w.store.Observe(w.check.commit)
	_, w.operator = w.store.Connect(context.Background(), etcdmem.Faults{})
	for i := range s.hosts {
		h := newHost(w, fmt.Sprintf("h%d", i), map[string]string{"zone": string(rune('a' + i%3))})
		h.member = i < 3
		w.hosts = append(w.hosts, h)
		h.boot()
	}
	for i := range s.schedulers {
		b := &brain{w: w, name: fmt.Sprintf("s%d", i)}
		w.brains = append(w.brains, b)
		b.start()
	}
	return w
}

// say notes what is done to the world.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%9.3f s  %s", time.Since(w.begun).Seconds(), fmt.Sprintf(format, args...))
	w.story = append(w.story, line)
	w.log.Info(line)
}

// close ends every process.
func (w *world) close() {
	w.store.Up() // or they wait for it
	for _, b := range w.brains {
		b.kill()
	}
	for _, h := range w.hosts {
		h.off()
	}
	w.operator.Close()
}

// brain is a scheduler's process.
type brain struct {
	w      *world
	name   string
	conn   *etcdmem.Conn
	cancel context.CancelFunc // nil: it does not run
	done   chan struct{}
}

func (b *brain) start() {
	if b.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	conn, cli := b.w.store.Connect(context.Background(), b.w.noise.faults())
	b.conn, b.cancel, b.done = conn, cancel, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		defer cli.Close()
		if err := scheduler.Run(ctx, cli, scheduler.Options{Name: b.name, Log: b.w.log.With("scheduler", b.name)}); err != nil {
			b.w.check.fail("scheduler %s ended: %v", b.name, err)
		}
	}(b.done)
}

// kill ends the process without a last word: its lease has to run out.
func (b *brain) kill() {
	if b.cancel == nil {
		return
	}
	b.conn.Cut()
	b.cancel()
	<-b.done
	b.cancel = nil
}
