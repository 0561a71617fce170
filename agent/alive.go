package agent

import "context"

// Alive returns once the agent's loop has answered, which it does between two
// looks at the host, or with ctx's error.
func (a *Agent) Alive(ctx context.Context) error {
	answered := make(chan struct{})
	a.send(ctx, func() { close(answered) })
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
