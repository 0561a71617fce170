package systemd

import (
	"context"
	"fmt"
	"sync"
)

// reloads lets everyone who needs systemd to read its files again share the
// next reload that starts after they asked.
type reloads struct {
	mu      sync.Mutex
	waiting []chan error
	running bool
}

// reloaded returns once systemd has read the unit files as they are now.
func (s *Systemd) reloaded(ctx context.Context) error {
	done := make(chan error, 1)
	s.reload.mu.Lock()
	s.reload.waiting = append(s.reload.waiting, done)
	if !s.reload.running {
		s.reload.running = true
		go s.reloadAll(context.WithoutCancel(ctx))
	}
	s.reload.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for systemd to reload: %w", ctx.Err())
	}
}

// reloadAll reloads until nobody waits any more.
func (s *Systemd) reloadAll(ctx context.Context) {
	for {
		s.reload.mu.Lock()
		waiting := s.reload.waiting
		s.reload.waiting = nil
		s.reload.running = len(waiting) > 0
		s.reload.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		err := s.reloadOnce(ctx)
		for _, done := range waiting {
			done <- err
		}
	}
}

func (s *Systemd) reloadOnce(ctx context.Context) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot have systemd reload: %w", err)
	}
	return nil
}
