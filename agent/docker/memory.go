package docker

import (
	"slices"
	"sync"
	"time"

	"bulkhead/agent/cells"
)

// believed is how long the engine's last answer stands when it says that
// nothing has happened.
const believed = 10 * time.Second

// memory is what the engine last said about our containers. Asking costs
// milliseconds for each of them, and the agent looks at all of them whenever
// anything on its host moves.
type memory struct {
	mu        sync.Mutex
	known     []cells.Container
	until     time.Time
	changes   int  // counts what may have made known stale
	following bool // events come, so changes are noticed
}

// recall returns what is known, and false when the engine has to be asked.
func (m *memory) recall(now time.Time) ([]cells.Container, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.following || now.After(m.until) {
		return nil, false
	}
	return slices.Clone(m.known), true
}

// mark is taken before asking, and given to keep.
func (m *memory) mark() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changes
}

// keep remembers an answer, unless something happened while it was given.
func (m *memory) keep(cs []cells.Container, mark int, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changes == mark {
		m.known, m.until = slices.Clone(cs), now.Add(believed)
	}
}

// forget says that something happened.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	m.known, m.until = nil, time.Time{}
}

// follow says whether events come from now on.
func (m *memory) follow(yes bool) {
	m.forget()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.following = yes
}
