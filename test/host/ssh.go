package host

import (
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// Over is a machine that is reached by ssh, with these words before each
// command: a virtual one (scripts/vm). It is what its owner made it: nothing of
// it is removed when the test ends, and only commands can be run on it.
func Over(t testing.TB, name string, ssh ...string) *Host {
	t.Helper()
	return &Host{Name: name, t: t, ssh: ssh}
}

// overSSH runs a command by way of a shell on the other side, which must find
// its words as they are here.
func overSSH(ctx context.Context, ssh []string, input io.Reader, command []string) (string, error) {
	quoted := make([]string, len(command))
	for i, word := range command {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	args := append(append([]string{}, ssh[1:]...), "--", strings.Join(quoted, " "))
	cmd := exec.CommandContext(ctx, ssh[0], args...)
	cmd.Stdin = input
	out, err := cmd.CombinedOutput()
	return string(out), err
}
