package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func newRolloutList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List rollouts, the newest first",
		Example: `  bulkhead rollout list
  bulkhead rollout list -o json | jq -r '.[] | select(.status.phase == "stopped") | .id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.look(cmd.Context(), rolloutPrefixes...)
			if err != nil {
				return err
			}
			all := rolloutViews(v)
			if all == nil {
				all = []*rolloutView{}
			}
			return a.say(all, func(w io.Writer) {
				rows := [][]string{{"ROLLOUT", "WHAT", "PHASE", "HOSTS", "BEGUN", "SAYS"}}
				for _, r := range all {
					rows = append(rows, []string{r.ID, r.what(), r.Status.Phase, fmt.Sprintf("%d of %d", r.Done, len(r.Hosts)), age(r.Status.Begun), dash(firstLine(r.Status.Reason))})
				}
				table(w, rows)
			})
		},
	}
}

func newRolloutStatus(a *app) *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "status [ROLLOUT]",
		Short: "Show how a rollout goes, host by host",
		Long: `Show each host's step, how long it has been in it, instances that are left to
move, requests in flight, requests that the platform has failed at its proxy since
the rollout began, and what it waits for; of the newest rollout, unless one is
named. The sum of failed requests is that of all hosts, also of those that the
rollout isn't for; docs/rollouts.md says what counts. --watch shows it again
whenever something changes, until the rollout ends or stops; with -o json as one
object a line.`,
		Example: `  bulkhead rollout status
  bulkhead rollout status os-1128-170200 --watch
  bulkhead rollout status -o json | jq '.hosts[] | {host, step, left_to_move}'
  bulkhead rollout status -o json | jq .failed`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRollouts,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			id := strings.Join(args, "")
			if watch {
				return a.watchRollout(cmd.Context(), s, id)
			}
			v, err := s.look(cmd.Context(), rolloutPrefixes...)
			if err != nil {
				return err
			}
			r, err := findRollout(v, id)
			if err != nil {
				return err
			}
			return a.say(r, r.text)
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "show it again whenever it changes, until it ends or stops")
	return c
}

// findRollout finds one, or the newest.
func findRollout(v *view, id string) (*rolloutView, error) {
	all := rolloutViews(v)
	for _, r := range all {
		if id == "" || r.ID == id {
			return r, nil
		}
	}
	if id == "" {
		return nil, fail(exitNotFound, "bulkhead rollout start begins one", "there is no rollout")
	}
	return nil, fail(exitNotFound, "bulkhead rollout list shows those there are", "there is no rollout %q", id)
}

// watchRollout shows a rollout until it ends or stops.
func (a *app) watchRollout(ctx context.Context, s store, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v, shown := &view{}, ""
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	batches := etcd.Watch(ctx, s.Client, rolloutPrefixes...)
	for listed := false; ; {
		select {
		case b, ok := <-batches:
			if !ok {
				return ctx.Err()
			}
			v.take(b)
			listed = true
		case <-clock.C:
			if !listed || !a.onTerminal() { // only there does time alone show
				continue
			}
		}
		r, err := findRollout(v, id)
		if err != nil {
			return err
		}
		id = r.ID // a newer one is another's
		if err := a.frame(r, &shown); err != nil {
			return err
		}
		switch {
		case r.Status.Phase == cluster.RolloutStopped:
			return fail(exitFailure, "bulkhead rollout resume "+id+" goes on, abort ends it, undo brings back what was before (image and agent)", "rollout %s has stopped: %s", id, r.Status.Reason)
		case r.ended():
			return nil
		}
	}
}

// frame shows a rollout once more: over the last on a terminal, else below it
// and only when more than the time has changed.
func (a *app) frame(r *rolloutView, shown *string) error {
	still := *r
	still.Hosts = append([]rolloutHost(nil), r.Hosts...)
	for i := range still.Hosts {
		if !settled(still.Hosts[i].State) {
			still.Hosts[i].Took = 0
		}
	}
	data, err := json.Marshal(still)
	if err != nil {
		return err
	}
	terminal := a.onTerminal()
	if string(data) == *shown && !terminal {
		return nil
	}
	*shown = string(data)
	if a.output == "json" {
		fmt.Fprintln(a.out, *shown)
		return nil
	}
	if terminal {
		fmt.Fprint(a.out, "\x1b[H\x1b[2J")
	}
	r.text(a.out)
	if !terminal {
		fmt.Fprintln(a.out)
	}
	return nil
}

// onTerminal says whether a person looks at what is printed.
func (a *app) onTerminal() bool {
	f, ok := a.out.(*os.File)
	if !ok || a.output == "json" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
