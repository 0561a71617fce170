package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

func newRollout(a *app) *cobra.Command {
	c := group("rollout", "Take the fleet through patches, host by host",
		"A rollout takes hosts through a patch, one after the other: the canary first,\nwatched for a while, then the rest; each must be back and well before the next\nbegins. When one isn't, the rollout stops and says why; tenants are served\nthroughout. It is carried on by whichever scheduler leads (docs/rollouts.md).",
		"  bulkhead rollout start os\n  bulkhead rollout status --watch\n  bulkhead rollout pause os-1128-1702")
	c.AddCommand(newRolloutStart(a), newRolloutList(a), newRolloutStatus(a),
		newRolloutPause(a), newRolloutResume(a), newRolloutAbort(a), newRolloutUndo(a), newRolloutRm(a), newRolloutLocks(a), newRolloutUnlock(a))
	return c
}

func newRolloutStart(a *app) *cobra.Command {
	var (
		id    string
		r     = cluster.DefaultRollout()
		watch = durations{}
	)
	c := &cobra.Command{
		Use:   "start os|image|agent",
		Short: "Begin a rollout",
		Long: `Begin a rollout. os drains each host, has it run an action of its own
configuration (reboot, unless another is named) and waits until it is back with
another boot; image has each host fetch another image, and replaces its instances,
each start before stop; agent has each host become another release of Bulkhead.`,
		Example: `  bulkhead rollout start os
  bulkhead rollout start os --label zone=a --action rpm-ostree-upgrade --canary 2 --watch-for 30m
  bulkhead rollout start image --image "$(bulkhead image build)" --host h1 --host h2`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{string(cluster.RolloutOS), string(cluster.RolloutImage), string(cluster.RolloutAgent)},
	}
	f := c.Flags()
	f.StringVar(&id, "id", "", "its name; one is made of the kind and the time")
	f.StringToStringVar(&r.Labels, "label", nil, "only hosts with this label (name=value); may be given more than once")
	f.StringArrayVar(&r.Hosts, "host", nil, "only these hosts, in this order; may be given more than once")
	f.StringVar(&r.Action, "action", "", "of an os rollout: what hosts do, as their own configuration names it; reboot")
	f.StringVar(&r.Image, "image", "", "of an image rollout: the image's ID, sha256:…")
	f.StringVar(&r.Release, "release", "", "of an agent rollout: the release's digest, sha256:…")
	f.IntVar(&r.Pace.AtOnce, "at-once", r.Pace.AtOnce, "hosts at a time, once the canaries have been watched")
	f.IntVar(&r.Pace.Canary, "canary", r.Pace.Canary, "hosts that go first, one by one")
	watch.add(c, "watch-for", &r.Pace.Watch, "how long to wait after the canaries")
	watch.add(c, "back", &r.Gate.Back, "a host must be back, patched, within")
	watch.add(c, "steady", &r.Gate.Steady, "and be well for")
	watch.add(c, "move", &r.Gate.Move, "an instance must be replaced within, once there is room")
	f.BoolVar(&r.Alone, "alone", false, "although tenants have nowhere to go: they are away meanwhile")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if r.Kind = cluster.RolloutKind(args[0]); id == "" {
			id = args[0] + "-" + time.Now().Format("0102-150405")
		}
		watch.take()
		s, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		return a.startRollout(cmd.Context(), s, id, r)
	}
	return c
}

// durations are flags that take a time.Duration and set one of cluster's.
type durations map[*cluster.Duration]*time.Duration

func (d durations) add(c *cobra.Command, name string, at *cluster.Duration, usage string) {
	d[at] = c.Flags().Duration(name, time.Duration(*at), usage)
}

func (d durations) take() {
	for at, v := range d {
		*at = cluster.Duration(*v)
	}
}

func (a *app) startRollout(ctx context.Context, s store, id string, r cluster.Rollout) error {
	data, err := encodeRollout(id, r)
	if err != nil {
		return err
	}
	key := cluster.RolloutKey(id)
	t, err := s.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(data))).Commit()
	if err != nil {
		return fmt.Errorf("cannot write rollout %s: %w", id, err)
	}
	if !t.Succeeded {
		return fail(exitFailure, "give another --id, or bulkhead rollout rm "+id, "there is a rollout %s already", id)
	}
	return a.say(struct {
		ID string `json:"id"`
		cluster.Rollout
	}{id, r}, func(w io.Writer) {
		fmt.Fprintf(w, "rollout %s begins; bulkhead rollout status %s --watch shows how it goes\n", id, id)
	})
}

// encodeRollout is a rollout's JSON, read once more as a scheduler will.
func encodeRollout(id string, r cluster.Rollout) ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	_, problems := cluster.DecodeRollout(id, data)
	if err := cluster.Invalid(problems); err != nil {
		return nil, fail(exitInvalid, "bulkhead rollout start --help shows what there is", "this is no valid rollout: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return data, nil
}

// completeRollouts completes a first argument with rollouts' names.
func (a *app) completeRollouts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeKeys(cmd, cluster.RolloutsPrefix), cobra.ShellCompDirectiveNoFileComp
}
