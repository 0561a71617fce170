package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd"
)

func newAudit(a *app) *cobra.Command {
	cmd := group("audit", "Show, keep and verify who did what",
		`audit shows the cluster's audit log: who did what to which tenant, function, host
or rollout. The leading scheduler keeps it, also of what was written past
bulkhead. Each record holds the hash of the one before, so that a log can be
verified by itself.`,
		`  bulkhead audit log --tenant acme`)
	cmd.AddCommand(newAuditLog(a), newAuditExport(a), newAuditVerify(a))
	return cmd
}

// choice is which records to show.
type choice struct {
	tenant, by string
	since      time.Duration
	last       int
	follow     bool
}

func newAuditLog(a *app) *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show who did what, oldest first",
		Long: `log shows the records that etcd has; "bulkhead audit export" keeps all of them.
BY is the user of etcd. Root's certificate, and anybody while etcd checks no
access, can write as any user; the others cannot.`,
		Example: `  bulkhead audit log --tenant acme --since 24h
  bulkhead audit log --by operator-alice
  bulkhead audit log -f`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			return a.auditLog(cmd.Context(), s, c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.tenant, "tenant", "", "only of this tenant and its functions")
	f.StringVar(&c.by, "by", "", "only what this user of etcd did, or who calls himself so")
	f.DurationVar(&c.since, "since", 0, "only as old as this; 0: all there are")
	f.IntVar(&c.last, "last", 0, "only so many of them; 0: all")
	f.BoolVarP(&c.follow, "follow", "f", false, "go on with what is recorded from now on")
	_ = cmd.RegisterFlagCompletionFunc("tenant", a.completeTenants)
	return cmd
}

func (a *app) auditLog(ctx context.Context, s store, c choice) error {
	var n int64
	from := time.Time{}
	if c.since > 0 {
		from = time.Now().Add(-c.since)
	}
	heading := true
	show := func(last int) error {
		records := []audit.Record{}
		var lines bytes.Buffer
		head, err := audit.Copy(ctx, s.KV, n, &lines)
		if err != nil {
			return err
		}
		_, err = audit.Verify(&lines, func(r audit.Record) error {
			if c.wants(r) && !r.At.Before(from) {
				records = append(records, r)
			}
			return nil
		})
		if err != nil {
			return fail(exitFailure, "bulkhead audit verify says more", "cannot trust the audit log in etcd: %w", err)
		}
		if n = head.N; last > 0 && len(records) > last {
			records = records[len(records)-last:]
		}
		defer func() { heading = false }()
		return a.say(records, func(w io.Writer) { auditTable(w, records, heading) })
	}
	if err := show(c.last); err != nil || !c.follow {
		return err
	}
	for range etcd.Watch(ctx, s.Client, cluster.AuditHeadKey) {
		if err := show(0); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// wants says whether a record is asked for.
func (c choice) wants(r audit.Record) bool {
	if c.by != "" && c.by != r.By && !strings.Contains(r.Says, c.by) {
		return false
	}
	return c.tenant == "" || r.What == "tenant "+c.tenant || strings.HasPrefix(r.What, "function "+c.tenant+"/")
}

func auditTable(w io.Writer, records []audit.Record, heading bool) {
	rows := [][]string{}
	if heading {
		rows = append(rows, []string{"N", "AT", "BY", "DID", "WHAT", "WITH", "MORE"})
	}
	for _, r := range records {
		more := strings.Join(r.Changed, " ")
		if r.Note != "" {
			more = strings.TrimSpace(more + " " + r.Note)
		}
		by := cmp.Or(r.By, "not said")
		if r.Says != "" {
			by += " (" + r.Says + ")"
		}
		rows = append(rows, []string{fmt.Sprint(r.N), r.At.Local().Format(time.DateTime), by, r.Did, dash(cmp.Or(r.What, r.Key)), dash(r.With), dash(more)})
	}
	table(w, rows)
}
