package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// marked is what a command did to a host.
type marked struct {
	Host      string `json:"host"`
	State     string `json:"state"`
	Instances int    `json:"instances"`
}

// onHost is a command that does something to one host.
func (a *app) onHost(c *cobra.Command, do func(ctx context.Context, s store, h *hostView) (marked, error)) *cobra.Command {
	c.Args, c.ValidArgsFunction = cobra.ExactArgs(1), a.completeHosts
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		_, h, err := s.host(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		m, err := do(cmd.Context(), s, h)
		if err != nil {
			return err
		}
		return a.say(m, func(w io.Writer) {
			fmt.Fprintf(w, "host %s is %s; it has %d instances\n", m.Host, m.State, m.Instances)
		})
	}
	return c
}

// change writes keys of a host and says how it stands then.
func (s store) change(ctx context.Context, host string, ops ...clientv3.Op) (marked, error) {
	if _, err := s.Txn(ctx).Then(ops...).Commit(); err != nil {
		return marked{}, fmt.Errorf("cannot write what host %s is to be: %w", host, err)
	}
	v, err := s.look(ctx, hostPrefixes...)
	if err != nil {
		return marked{}, err
	}
	m := marked{Host: host, State: "unknown: nothing is left of it"}
	if h := hostViews(v)[host]; h != nil {
		m.State, m.Instances = h.State, h.Instances
	}
	return m, nil
}

func newHostCordon(a *app) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:     "cordon HOST",
		Short:   "Have a host get nothing new; what it has stays",
		Example: `  bulkhead host cordon h1 --reason 'its disk is slow'`,
	}
	c.Flags().StringVar(&reason, "reason", "bulkhead host cordon", "why, for those who wonder")
	return a.onHost(c, func(ctx context.Context, s store, h *hostView) (marked, error) {
		return s.change(ctx, h.Name, clientv3.OpPut(cluster.CordonKey(h.Name), reason))
	})
}

func newHostUncordon(a *app) *cobra.Command {
	return a.onHost(&cobra.Command{
		Use:     "uncordon HOST",
		Short:   "Have a host get new instances again",
		Long:    "Take a cordon away, and the scheduler's distrust of a host that came and went,\nif there is any.",
		Example: `  bulkhead host uncordon h1`,
	}, func(ctx context.Context, s store, h *hostView) (marked, error) {
		return s.change(ctx, h.Name, clientv3.OpDelete(cluster.CordonKey(h.Name)), clientv3.OpDelete(cluster.DistrustKey(h.Name)))
	})
}

func newHostDrain(a *app) *cobra.Command {
	var (
		reason  string
		wait    bool
		timeout time.Duration
	)
	c := &cobra.Command{
		Use:   "drain HOST",
		Short: "Have all instances leave a host",
		Long: `Have the instances of a host start elsewhere and, once they serve there, end
here. Nothing new is placed on it. Where there is no room elsewhere they stay:
--wait, and bulkhead host show, say which tenant needs what. --wait ends when the
host's agent has stopped the last.`,
		Example: `  bulkhead host drain h1 --reason 'new kernel' --wait
  bulkhead host drain h1 --wait --timeout 30m && ssh h1 systemctl reboot`,
	}
	c.Flags().StringVar(&reason, "reason", "bulkhead host drain", "why, for those who wonder")
	c.Flags().BoolVar(&wait, "wait", false, "wait until nothing is left on it")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	return a.onHost(c, func(ctx context.Context, s store, h *hostView) (marked, error) {
		m, err := s.change(ctx, h.Name, clientv3.OpPut(cluster.DrainKey(h.Name), reason))
		if err != nil || !wait {
			return m, err
		}
		return a.drained(ctx, s, h.Name, timeout)
	})
}

// drained waits until nothing is left on a host, and says meanwhile what is.
func (a *app) drained(ctx context.Context, s store, host string, timeout time.Duration) (marked, error) {
	said := ""
	v, ok := s.wait(ctx, timeout, func(v *view) bool {
		here, running := instancesOn(v, host), reportedOn(v, host)
		line := fmt.Sprintf("%d instances are left on %s", len(here), host)
		if len(here) == 0 {
			line = fmt.Sprintf("%d instances are stopping on %s", running, host)
		}
		for _, p := range here {
			if p.Waits != "" {
				line += "\n  " + p.Waits
			}
		}
		if line != said && len(here)+running > 0 {
			a.note("%s", line)
			said = line
		}
		return len(here)+running == 0
	}, hostPrefixes...)
	if ok {
		return marked{host, "drained", 0}, nil
	}
	here := instancesOn(v, host)
	for _, p := range here {
		if p.Waits != "" {
			return marked{}, fail(exitLate, "make room elsewhere, or bulkhead host undrain "+host, "after %s %d instances are left on %s: %s", timeout, len(here), host, p.Waits)
		}
	}
	if running := reportedOn(v, host); len(here) == 0 {
		return marked{}, fail(exitLate, "see what its agent says there: journalctl -u bulkhead-agent", "after %s nothing is placed on %s any more, but by its agent's word %d instances are still there", timeout, host, running)
	}
	return marked{}, fail(exitLate, "bulkhead host show "+host+" shows them; --timeout gives it longer", "after %s %d instances are left on %s, and %d run", timeout, len(here), host, reportedOn(v, host))
}

// reportedOn counts the instances that a host's agent still reports.
func reportedOn(v *view, host string) (n int) {
	under(v, cluster.InstancesPrefix, 2, func(names []string, _ cluster.Instance, _ etcd.Event) {
		if names[0] == host {
			n++
		}
	})
	return n
}

func newHostUndrain(a *app) *cobra.Command {
	return a.onHost(&cobra.Command{
		Use:     "undrain HOST",
		Short:   "Have a host that was drained take part again",
		Long:    "Take a drain away. What has left does not hurry back: the host fills with what\nis placed from now on, and with what the scheduler moves to even hosts out.",
		Example: `  bulkhead host undrain h1`,
	}, func(ctx context.Context, s store, h *hostView) (marked, error) {
		return s.change(ctx, h.Name, clientv3.OpDelete(cluster.DrainKey(h.Name)))
	})
}

func newHostRm(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "rm HOST",
		Short: "Forget a host that is out of service",
		Long: `Remove what is known of a host: its inventory, cordon, drain and distrust. It is
refused while its agent is there, or instances are placed on it; drain it and
stop its agent first. With --force it is done all the same; instances that are
placed on a dead host are moved by the scheduler.`,
		Example: `  bulkhead host rm h1
  bulkhead host rm h1 --force`,
	}
	c.Flags().BoolVar(&force, "force", false, "although its agent is there, or it has instances")
	return a.onHost(c, func(ctx context.Context, s store, h *hostView) (marked, error) {
		switch {
		case force:
		case h.present:
			return marked{}, fail(exitFailure, "bulkhead host drain "+h.Name+" --wait, stop its agent, then remove it", "cannot remove host %s: its agent is there", h.Name)
		case h.Instances > 0:
			return marked{}, fail(exitFailure, "they move once it has been gone for a while, and there is room", "cannot remove host %s: %d instances are placed on it", h.Name, h.Instances)
		}
		return s.change(ctx, h.Name,
			clientv3.OpDelete(cluster.InventoryKey(h.Name)), clientv3.OpDelete(cluster.CordonKey(h.Name)),
			clientv3.OpDelete(cluster.DrainKey(h.Name)), clientv3.OpDelete(cluster.DistrustKey(h.Name)))
	})
}
