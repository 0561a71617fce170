package systemd

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// ensureUser makes a system user and group of this name and number, where
// there is none: a unit's User= and SocketGroup= take only what the host
// knows, a number too.
func ensureUser(ctx context.Context, name string, id int) error {
	c := exec.CommandContext(ctx, "systemd-sysusers", "-")
	c.Stdin = strings.NewReader(fmt.Sprintf("u %s %d %q\n", name, id, "Bulkhead"))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make user %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
