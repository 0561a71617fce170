package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/agent/facts"
	"bulkhead/cluster"
)

// logLine is a line that a tenant's code has printed, as runners keep it.
type logLine struct {
	Time     time.Time `json:"time"`
	Tenant   string    `json:"tenant"`
	Instance string    `json:"instance"`
	Function string    `json:"function,omitempty"`
	Version  string    `json:"version,omitempty"`
	Request  string    `json:"request,omitempty"`
	Level    string    `json:"level"`
	Message  string    `json:"message"`
}

// logQuery says which lines to show.
type logQuery struct {
	tenant, function string
	tail             int       // the last so many; 0: all
	since            time.Time // zero: from the first
	follow           bool
	platform         bool // lines that are not the code's own, too
	state            string
}

// wants says whether a line is asked for.
func (q logQuery) wants(l logLine) bool {
	return l.Tenant == q.tenant && (q.function == "" || l.Function == q.function) &&
		(q.platform || l.Level != "platform") && !l.Time.Before(q.since)
}

func newLogs(a *app) *cobra.Command {
	var q logQuery
	var since string
	cmd := &cobra.Command{
		Use:   "logs TENANT[/FUNCTION]",
		Short: "Show what a tenant's code prints, on this host",
		Long: `logs shows the lines that a tenant's functions have written to the console,
standard output and standard error on this host. Each line is laid to its
function and, where it can be, to its request.

Where systemd runs the host they are in the journal, with fields:
journalctl TENANT=acme FUNCTION=hello REQUEST_ID=… finds them too. Elsewhere
they are in files, the last 8 MiB of each instance.`,
		Example: `  bulkhead logs acme
  bulkhead logs acme/hello -f --tail 10
  bulkhead logs acme --since 10m -o json | jq -r .message`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.tenant, q.function, _ = strings.Cut(args[0], "/")
			if err := cluster.CheckTenant(q.tenant); err != nil {
				return fail(exitInvalid, "name it as in: bulkhead logs acme/hello", "%w", err)
			}
			var err error
			if q.since, err = sinceTime(since, time.Now()); err != nil {
				return err
			}
			return a.logs(cmd.Context(), q)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&q.follow, "follow", "f", false, "go on with lines as they come")
	f.IntVar(&q.tail, "tail", 100, "the last so many lines; 0: all that are kept")
	f.StringVar(&since, "since", "", "only lines since then: a time, or a duration like 10m")
	f.BoolVar(&q.platform, "platform", false, "lines of the platform itself too")
	f.StringVar(&q.state, "state", defaultState, "the state directory of bulkhead up")
	return cmd
}

// sinceTime reads a time, or a duration before now.
func sinceTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fail(exitUsage, `give a duration like 10m or a time like "2026-11-22T13:00:00Z"`, "--since %q is neither a duration nor a time", s)
	}
	return t, nil
}

func (a *app) logs(ctx context.Context, q logQuery) error {
	said := 0
	say := func(l logLine) { said++; a.sayLine(l) }
	var err error
	if facts.Systemd() {
		err = journalLines(ctx, q, say)
	} else {
		err = fileLines(ctx, filepath.Join(q.state, "logs"), q, say)
	}
	if err == nil && said == 0 && !q.follow {
		a.note("no such lines are kept on this host; where the tenant runs: bulkhead tenant show %s", q.tenant)
	}
	return err
}

func (a *app) sayLine(l logLine) {
	if a.output == "json" {
		json.NewEncoder(a.out).Encode(l)
		return
	}
	fmt.Fprintf(a.out, "%s %s %-5s %s", l.Time.Local().Format("15:04:05.000"), dash(l.Function), l.Level, printable(l.Message))
	if l.Request != "" {
		fmt.Fprintf(a.out, "  (%s)", l.Request)
	}
	fmt.Fprintln(a.out)
}
