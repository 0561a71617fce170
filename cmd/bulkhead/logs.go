package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"bulkhead/agent/docker"
	"bulkhead/cluster"
)

// logLine is a line of a cell's log: docs/cell.md.
type logLine struct {
	Time     time.Time `json:"time"`
	Instance string    `json:"instance"`
	Function string    `json:"function,omitempty"`
	Version  string    `json:"version,omitempty"`
	Request  string    `json:"request,omitempty"`
	Level    string    `json:"level"`
	Message  string    `json:"message"`
}

func newLogs(a *app) *cobra.Command {
	var o docker.LogOptions
	var all bool
	cmd := &cobra.Command{
		Use:   "logs TENANT[/FUNCTION]",
		Short: "Show what a tenant's code says, on this host",
		Long: `logs shows the lines that a tenant's functions have written to the console,
standard output and standard error, from the tenant's containers on this host.
Each line is laid to its function and, where it can be, to its request.`,
		Example: `  bulkhead logs acme
  bulkhead logs acme/hello -f --tail 10
  bulkhead logs acme --since 10m -o json | jq -r .message`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.logs(cmd.Context(), args[0], o, all)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on with lines as they come")
	f.IntVar(&o.Tail, "tail", 100, "the last so many lines of each instance; 0: all that are kept")
	f.StringVar(&o.Since, "since", "", "only lines since then: a time, or a duration like 10m")
	f.BoolVar(&all, "platform", false, "lines of the platform itself too")
	return cmd
}

func (a *app) logs(ctx context.Context, what string, o docker.LogOptions, platform bool) error {
	tenant, function, _ := strings.Cut(what, "/")
	if err := cluster.CheckTenant(tenant); err != nil {
		return fail(exitInvalid, "name it as in: bulkhead logs acme/hello", "%w", err)
	}
	engine, err := docker.Open("", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer engine.Close()
	names, err := engine.OfTenant(ctx, tenant)
	if err != nil {
		return fail(exitUnreachable, "run it on a host, as a user who may use Docker", "%w", err)
	}
	if len(names) == 0 {
		return fail(exitNotFound, "see where it runs: bulkhead tenant show "+tenant, "no instance of tenant %q is on this host", tenant)
	}
	var mu sync.Mutex // of the output: a line at a time
	var wg sync.WaitGroup
	errs := make([]error, len(names))
	for i, instance := range names {
		wg.Go(func() {
			r, w := io.Pipe()
			go func() { w.CloseWithError(engine.Logs(ctx, cluster.ContainerName(instance), o, w)) }()
			lines := bufio.NewScanner(r)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				l, ok := parseLine(lines.Bytes(), instance)
				if !ok || function != "" && l.Function != function || l.Level == "platform" && !platform {
					continue
				}
				mu.Lock()
				a.sayLine(l)
				mu.Unlock()
			}
			errs[i] = lines.Err()
			r.CloseWithError(errs[i])
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// parseLine reads a line of a cell's log. What is none was written by the
// engine or a dying process; it is shown as the platform's.
func parseLine(b []byte, instance string) (logLine, bool) {
	if len(b) == 0 {
		return logLine{}, false
	}
	l := logLine{}
	if json.Unmarshal(b, &l) != nil {
		l = logLine{Level: "platform", Message: string(b)}
	}
	l.Instance = instance
	return l, true
}

// printable shows control characters instead of sending them: what tenants
// write must not drive the operator's terminal, nor look like another line.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\t' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	}
	return b.String()
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
