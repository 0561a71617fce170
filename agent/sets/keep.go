package sets

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bulkhead/agent/archives"
	"bulkhead/cluster"
)

const (
	// fetchers is how many sets are fetched at a time.
	fetchers = 2
	// againAfter is how long to wait after a set could not be had from anywhere.
	againAfter = 30 * time.Second
)

// Keeper has the sets in a store that the host's functions name.
type Keeper struct {
	Store *Store
	Dial  archives.Dial // to other hosts' agents; nil: none is asked
	Log   *slog.Logger

	mu     sync.Mutex
	wanted map[string]*want     // by set: what functions name, and is not here
	named  map[string]time.Time // when functions last did so, by set
	poked  chan struct{}
	told   chan struct{} // closed when it is known what functions name
	once   sync.Once
}

// want is a set that is not here.
type want struct {
	from   map[string]string // hosts that may have it, with their proxies' addresses
	busy   bool
	failed bool // it could not be had
	next   time.Time
}

// NewKeeper makes one; Run has it work.
func NewKeeper(store *Store, dial archives.Dial, log *slog.Logger) *Keeper {
	return &Keeper{Store: store, Dial: dial, Log: log, wanted: map[string]*want{}, named: map[string]time.Time{}, poked: make(chan struct{}, 1), told: make(chan struct{})}
}

// Where is where cells see a set that a function names; empty: it is not here yet.
// Then it is fetched from this host's archives, or from one of these other hosts,
// with the addresses of their proxies; soon says that this has not failed yet.
func (k *Keeper) Where(set string, from map[string]string) (at string, soon bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.named[set] = time.Now()
	if k.Store.Has(set) {
		delete(k.wanted, set)
		return path.Join(cluster.ModulesDir, k.Store.Name(set)), true
	}
	w := k.wanted[set]
	if w == nil {
		w = &want{}
		k.wanted[set] = w
	}
	w.from = from
	k.poke()
	return "", !w.failed
}

// Named says which sets the host's functions name, all of them: others go in time.
func (k *Keeper) Named(all map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for set := range all {
		k.named[set] = now
	}
	maps.DeleteFunc(k.wanted, func(set string, w *want) bool { return !all[set] && !w.busy })
	k.once.Do(func() { close(k.told) })
}

func (k *Keeper) poke() {
	select {
	case k.poked <- struct{}{}:
	default:
	}
}

// Run fetches what is wanted until ctx ends, and tells notify when a set came, or
// could not be had.
func (k *Keeper) Run(ctx context.Context, notify func()) {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { k.tidy(ctx, notify) })
	room := make(chan struct{}, fetchers)
	for {
		for _, set := range k.due(time.Now()) {
			work.Go(func() {
				select {
				case room <- struct{}{}:
					defer func() { <-room }()
				case <-ctx.Done():
					return
				}
				k.fetch(ctx, set)
				notify()
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-k.poked:
		case <-time.After(againAfter):
		}
	}
}

// due are sets that are to be fetched now; they count as busy from here on.
func (k *Keeper) due(now time.Time) (all []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, set := range slices.Sorted(maps.Keys(k.wanted)) {
		if w := k.wanted[set]; !w.busy && !now.Before(w.next) {
			w.busy = true
			all = append(all, set)
		}
	}
	return all
}

func (k *Keeper) fetch(ctx context.Context, set string) {
	err := archives.Fetch(ctx, "set "+set, k.sources(set), func(ctx context.Context, archive io.Reader) error {
		return k.Store.Unpack(ctx, set, archive)
	}, k.Log)
	if err != nil && ctx.Err() == nil {
		k.Log.Error("functions wait for their npm modules", "error", err, "again", againAfter)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		delete(k.wanted, set)
		return
	}
	w := k.wanted[set]
	w.busy, w.failed, w.next = false, true, time.Now().Add(againAfter)
}

// sources are where a set may be had, the nearest first.
func (k *Keeper) sources(set string) []archives.Source {
	all := []archives.Source{archives.File(k.Store.Archive(set))}
	if k.Dial == nil {
		return all
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	from := k.wanted[set].from
	for _, host := range slices.Sorted(maps.Keys(from)) {
		all = append(all, archives.Host(host, from[host], "/sets/"+set, k.Dial))
	}
	return all
}

// Archives says whether a builder leaves its archives here.
func (k *Keeper) Archives() bool {
	_, err := os.Stat(filepath.Dir(k.Store.Archive("")))
	return err == nil
}

// Trees is the directory with the sets.
func (k *Keeper) Trees() string { return Trees(k.Store.dir) }
