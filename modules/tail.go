package modules

import "sync"

// maxLog is how much of what a build says is kept: the end of it.
const maxLog = 64 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - maxLog; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// String is what is kept, as text that etcd and terminals take.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string([]rune(string(t.text)))
}
