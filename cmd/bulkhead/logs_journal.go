package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"bulkhead/cluster"
)

// journalLines says the lines that are in this host's journal. Only what
// systemd itself vouches to come from one of the tenant's runners counts:
// anybody on a host may write fields into a journal.
func journalLines(ctx context.Context, q logQuery, say func(logLine)) error {
	args := []string{"--output=json", "--no-pager", "--all", "--quiet", "TENANT=" + q.tenant}
	if q.function != "" {
		args = append(args, "FUNCTION="+q.function)
	}
	if !q.platform {
		for _, level := range []string{"debug", "info", "warn", "error"} {
			args = append(args, "LEVEL="+level)
		}
	}
	if q.follow {
		args = append(args, "--follow")
	}
	if q.tail > 0 {
		args = append(args, fmt.Sprintf("--lines=%d", q.tail))
	} else {
		args = append(args, "--lines=all")
	}
	if !q.since.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d", q.since.Unix()))
	}
	cmd := exec.CommandContext(ctx, "journalctl", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return fail(exitUnreachable, "it belongs to systemd", "cannot ask the journal: %w", err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if l, ok := parseJournal(lines.Bytes()); ok && q.wants(l) {
			say(l)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil && ctx.Err() == nil {
		return fail(exitUnreachable, "run it with sudo, or as a member of systemd-journal", "cannot read the journal: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// parseJournal reads an entry as journalctl shows it in JSON.
func parseJournal(b []byte) (logLine, bool) {
	var e struct {
		Unit     string          `json:"_SYSTEMD_UNIT"`
		Message  json.RawMessage `json:"MESSAGE"`
		Tenant   string          `json:"TENANT"`
		Instance string          `json:"INSTANCE"`
		Function string          `json:"FUNCTION"`
		Version  string          `json:"VERSION"`
		Request  string          `json:"REQUEST_ID"`
		Level    string          `json:"LEVEL"`
		Printed  time.Time       `json:"PRINTED"`
	}
	if json.Unmarshal(b, &e) != nil {
		return logLine{}, false
	}
	tenant, n, err := cluster.ParseInstance(e.Instance)
	if err != nil || tenant != e.Tenant || e.Unit != cluster.RunnerService(tenant, n) {
		return logLine{}, false
	}
	return logLine{e.Printed, e.Tenant, e.Instance, e.Function, e.Version, e.Request, e.Level, journalText(e.Message)}, true
}

// journalText is a field that is text, or the bytes of what is not.
func journalText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var numbers []int
	json.Unmarshal(raw, &numbers)
	bytes := make([]byte, len(numbers))
	for i, n := range numbers {
		bytes[i] = byte(n)
	}
	return strings.ToValidUTF8(string(bytes), "\uFFFD")
}
