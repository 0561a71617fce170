package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

// onRollout is a command that changes a rollout.
func (a *app) onRollout(c *cobra.Command, says string, do func(*cluster.Rollout)) *cobra.Command {
	c.Args, c.ValidArgsFunction = cobra.ExactArgs(1), a.completeRollouts
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		r, err := s.changeRollout(cmd.Context(), args[0], do)
		if err != nil {
			return err
		}
		return a.say(struct {
			ID string `json:"id"`
			cluster.Rollout
		}{args[0], r}, func(w io.Writer) { fmt.Fprintf(w, "rollout %s %s\n", args[0], says) })
	}
	return c
}

// changeRollout writes a rollout again, unless somebody else does meanwhile:
// then it looks once more.
func (s store) changeRollout(ctx context.Context, id string, do func(*cluster.Rollout)) (cluster.Rollout, error) {
	for {
		data, revision, err := s.read(ctx, cluster.RolloutKey(id))
		if err != nil {
			return cluster.Rollout{}, err
		}
		if revision == 0 {
			return cluster.Rollout{}, fail(exitNotFound, "bulkhead rollout list shows those there are", "there is no rollout %q", id)
		}
		r, problems := cluster.DecodeRollout(id, data)
		if err := cluster.Invalid(problems); err != nil {
			return r, fail(exitInvalid, "write a valid one, or bulkhead rollout rm "+id+" --force", "rollout %s as it is written is not valid: %w", id, err)
		}
		do(&r)
		if data, err = encodeRollout(id, r); err != nil {
			return r, err
		}
		key := cluster.RolloutKey(id)
		t, err := s.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpPut(key, string(data))).Commit()
		if err != nil {
			return r, fmt.Errorf("cannot write rollout %s: %w", id, err)
		}
		if t.Succeeded {
			return r, nil
		}
	}
}

func newRolloutPause(a *app) *cobra.Command {
	return a.onRollout(&cobra.Command{
		Use:     "pause ROLLOUT",
		Short:   "Have a rollout begin with no further host",
		Long:    "Have a rollout begin with no further host. Those that are at it go on to their\nend.",
		Example: `  bulkhead rollout pause os-1128-170200`,
	}, "begins with no further host", func(r *cluster.Rollout) { r.Paused = true })
}

func newRolloutResume(a *app) *cobra.Command {
	return a.onRollout(&cobra.Command{
		Use:     "resume ROLLOUT",
		Short:   "Have a rollout go on that was paused, stopped or aborted",
		Long:    "Have a rollout go on that was paused, aborted, or that stopped because a host did\nnot pass a gate: that host is tried again.",
		Example: `  bulkhead rollout resume os-1128-170200`,
	}, "goes on", func(r *cluster.Rollout) { r.Paused, r.Aborted = false, false })
}

func newRolloutAbort(a *app) *cobra.Command {
	return a.onRollout(&cobra.Command{
		Use:     "abort ROLLOUT",
		Short:   "End a rollout after the hosts that are at it",
		Example: `  bulkhead rollout abort os-1128-170200`,
	}, "ends after the hosts that are at it", func(r *cluster.Rollout) { r.Aborted = true })
}

func newRolloutUndo(a *app) *cobra.Command {
	return a.onRollout(&cobra.Command{
		Use:     "undo ROLLOUT",
		Short:   "Bring hosts back to the image or release that they had before",
		Long:    "Bring the hosts that an image or agent rollout has changed back to what they had\nbefore, as many at a time; those that are at it turn round.",
		Example: `  bulkhead rollout undo image-1128-170200`,
	}, "is undone", func(r *cluster.Rollout) { r.Undo, r.Paused, r.Aborted = true, false, false })
}

func newRolloutRm(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "rm ROLLOUT",
		Short: "Forget a rollout that has ended",
		Long: `Remove a rollout and what is known of how it went. It is refused before its end;
with --force it is done all the same: hosts that are at it finish, and no other
begins.`,
		Example:           `  bulkhead rollout rm os-1128-170200`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRollouts,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.look(cmd.Context(), rolloutPrefixes...)
			if err != nil {
				return err
			}
			r, err := findRollout(v, args[0])
			if err != nil {
				return err
			}
			if !r.ended() && !force {
				return fail(exitFailure, "bulkhead rollout abort "+r.ID+" ends it; --force removes it all the same", "cannot remove rollout %s: it is %s", r.ID, r.Status.Phase)
			}
			if _, err := s.Delete(cmd.Context(), cluster.RolloutKey(r.ID)); err != nil {
				return fmt.Errorf("cannot remove rollout %s: %w", r.ID, err)
			}
			return a.say(map[string]string{"removed": r.ID}, func(w io.Writer) { fmt.Fprintf(w, "rollout %s is removed\n", r.ID) })
		},
	}
	c.Flags().BoolVar(&force, "force", false, "although it has not ended")
	return c
}
