package fleet

import (
	"context"
	"fmt"
)

// Kill ends the host as a power cut does.
func (c Container) Kill(ctx context.Context) error {
	return c.thawing(ctx, func() error {
		_, err := docker(ctx, "kill", string(c))
		return err
	})
}

// Pause stops the host's time: nothing on it runs until Unpause.
func (c Container) Pause(ctx context.Context) error {
	_, err := docker(ctx, "pause", string(c))
	return err
}

// Unpause lets a paused host go on.
func (c Container) Unpause(ctx context.Context) error {
	_, err := docker(ctx, "unpause", string(c))
	return err
}

// Partition cuts the host off from addresses, or from everybody when none are
// given, in both directions, without a word to either side. Heal ends it.
func (c Container) Partition(ctx context.Context, from ...string) error {
	rules := "iptables -w -I INPUT ! -i lo -j DROP && iptables -w -I OUTPUT ! -o lo -j DROP"
	for i, address := range from {
		if i == 0 {
			rules = "true"
		}
		rules += fmt.Sprintf(" && iptables -w -I INPUT -s %[1]s -j DROP && iptables -w -I OUTPUT -d %[1]s -j DROP", address)
	}
	if out, err := c.Run(ctx, nil, "sh", "-c", rules); err != nil {
		return fmt.Errorf("cannot cut host %s off: %w: %s", c, err, out)
	}
	return nil
}

// Heal ends every partition of the host.
func (c Container) Heal(ctx context.Context) error {
	if out, err := c.Run(ctx, nil, "sh", "-c", "iptables -w -F INPUT && iptables -w -F OUTPUT"); err != nil {
		return fmt.Errorf("cannot heal host %s: %w: %s", c, err, out)
	}
	return nil
}
