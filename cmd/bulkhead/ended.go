package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/agent/releases"
	"bulkhead/agent/systemd"
)

func newEnded(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ended UNIT",
		Short: "Take back a release that fails (run by its units)",
		Long: `ended is told by systemd how a unit of a release has ended, and is of the release
before, while the other is on trial: from when a host becomes it until its agent
has seen to the host, its proxy is replaced and for 10 s nothing of it has failed.
With the fifth failure the release before is in force again.`,
		Example: `  ExecStopPost=-/opt/bulkhead/before/bulkhead ended %n`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.ended(cmd.Context(), args[0]) },
	}
}

func (a *app) ended(ctx context.Context, unit string) error {
	result := os.Getenv("SERVICE_RESULT") // systemd.exec(5)
	if result == "" {
		return fail(exitUsage, "leave it to the units of agent and scheduler", "nobody but systemd can say how %s has ended", unit)
	}
	if result == "success" { // it was stopped
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Dir(filepath.Dir(filepath.Dir(self)))
	f := releases.Failure{
		Unit: unit, How: fmt.Sprintf("%s (%s %s)", result, os.Getenv("EXIT_CODE"), os.Getenv("EXIT_STATUS")),
		Said: lastWords(ctx, os.Getenv("INVOCATION_ID")),
	}
	back, err := releases.Failed(dir, f)
	if err != nil || !back {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stdio.err, nil))
	log.Error("the release in force fails and was taken back", "unit", unit, "to", filepath.Base(filepath.Dir(self)))
	s, err := systemd.Open(ctx, log)
	if err != nil {
		return err
	}
	defer s.Close()
	return restartRelease(ctx, s)
}

const (
	wordsPatience = 5 * time.Second
	maxWords      = 400 // bytes
)

// lastWords are the last lines that a run of a unit has printed, as one, as far
// as the journal has them: the report would do without.
func lastWords(ctx context.Context, invocation string) string {
	if invocation == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, wordsPatience)
	defer cancel()
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run() // older ones are better than none
	out, err := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=3", "_SYSTEMD_INVOCATION_ID="+invocation).Output()
	if err != nil {
		return ""
	}
	words := strings.Join(strings.Fields(string(out)), " ")
	return strings.ToValidUTF8(words[max(0, len(words)-maxWords):], "")
}
