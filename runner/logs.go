package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/coreos/go-systemd/v22/journal"

	"bulkhead/internal/cellctl"
)

// Logs keeps what the tenant's code prints.
type Logs interface {
	Line(LogLine)
}

// LogLine is one line of it.
type LogLine struct {
	Time     string `json:"time"` // RFC 3339
	Tenant   string `json:"tenant"`
	Instance string `json:"instance"`
	Function string `json:"function,omitempty"`
	Version  string `json:"version,omitempty"`
	Request  string `json:"request,omitempty"` // id; empty: it can't be laid to one
	Level    string `json:"level"`             // debug, info, warn, error; platform: not the code's own
	Message  string `json:"message"`
}

// OpenLogs returns the journal where its socket is in the jail, else lines of
// JSON on w, which whoever started us keeps and bounds.
func OpenLogs(w io.Writer) Logs {
	if _, err := os.Stat("/run/systemd/journal/socket"); err == nil {
		return journalLogs{}
	}
	return lineLogs{json.NewEncoder(w)}
}

type lineLogs struct{ to *json.Encoder }

func (l lineLogs) Line(line LogLine) { l.to.Encode(line) }

type journalLogs struct{}

// Line sends a line with its fields. systemd adds some that nobody can forge,
// like _SYSTEMD_UNIT.
func (journalLogs) Line(l LogLine) {
	priority := journal.PriInfo
	switch l.Level {
	case "debug":
		priority = journal.PriDebug
	case "warn":
		priority = journal.PriWarning
	case "error":
		priority = journal.PriErr
	case "platform":
		priority = journal.PriNotice
	}
	fields := map[string]string{"SYSLOG_IDENTIFIER": "bulkhead", "TENANT": l.Tenant, "INSTANCE": l.Instance, "LEVEL": l.Level, "PRINTED": l.Time}
	for name, value := range map[string]string{"FUNCTION": l.Function, "VERSION": l.Version, "REQUEST_ID": l.Request} {
		if value != "" {
			fields[name] = value
		}
	}
	// A journal that does not take it has lost it: nothing here may wait.
	journal.Send(l.Message, priority, fields)
}

// maxLines is how many lines may wait for where they are kept.
const maxLines = 1024

// keeper hands lines to Logs, which may take its time: what is too much for it
// is dropped, and a line says how much that was.
type keeper struct {
	logs    Logs
	lines   chan LogLine
	dropped int // only by logged
}

func newKeeper(logs Logs) *keeper {
	if logs == nil {
		return nil
	}
	return &keeper{logs: logs, lines: make(chan LogLine, maxLines)}
}

func (k *keeper) run(ctx context.Context) {
	for {
		select {
		case l := <-k.lines:
			k.logs.Line(l)
		case <-ctx.Done():
			return
		}
	}
}

// logged keeps a line that the cell has sent. It is called by one goroutine at
// a time.
func (r *Runner) logged(e cellctl.Event) {
	if r.keeper == nil {
		return
	}
	r.mu.Lock()
	tenant, instance := r.config.Tenant, r.config.Instance
	r.mu.Unlock()
	line := LogLine{
		Time: e.Time, Tenant: tenant, Instance: instance, Function: e.Function, Version: e.Version,
		Request: e.Request, Level: e.Level, Message: e.Message,
	}
	k := r.keeper
	if k.dropped > 0 && len(k.lines) < maxLines/2 {
		gap := line
		gap.Level, gap.Request, gap.Message = "platform", "", fmt.Sprintf("%d lines were dropped here: the host's log did not take them in time", k.dropped)
		k.lines <- gap
		k.dropped = 0
	}
	select {
	case k.lines <- line:
	default:
		k.dropped++
	}
}
