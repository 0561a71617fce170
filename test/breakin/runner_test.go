package breakin

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/test/breakin/breach"
)

// TestBreakIn breaks into a runner and into a container.
func TestBreakIn(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a host")
	}
	s := newSite(t)
	s.ablate("runner", runnerLayers, s.runners)
	// V8 compiles code as it runs.
	s.ablate("container", cellLayers, s.containers, "write memory and then run it", "have memory that is written and run at once")
}

const unitDir = "/run/systemd/system/"

// runners breaks into the attacker's runner, once in its own unit as the agent
// has put it there, and once in a copy of that for each set of layers that are
// to be away.
func (s *site) runners(away [][]layer) []map[string]breach.Attempt {
	s.t.Helper()
	var started []string
	var files strings.Builder
	for i, layers := range away {
		if len(layers) == 0 {
			fmt.Fprintf(&files, "mkdir -p %[1]s%[2]s.d\ncat >%[1]s%[2]s.d/orders.conf <<'END'\n[Service]\n%[3]s\nEND\n", unitDir, attacker, s.environment(nil))
			started = append(started, attacker)
			continue
		}
		name := fmt.Sprintf("breakin-%d", i)
		for _, kind := range []string{"service", "socket"} {
			fmt.Fprintf(&files, "sed 's|bulkhead-attacker-0.slice|breakin_%[3]d.slice|; s|bulkhead-attacker-0|%[2]s|g; s|^ListenStream=.*|ListenStream=/run/breakin/%[3]d.sock|' %[1]sbulkhead-attacker-0.%[4]s >%[1]s%[2]s.%[4]s\n", unitDir, name, i, kind)
		}
		fmt.Fprintf(&files, "cp %[1]sbulkhead-attacker-0.slice %[1]sbreakin_%[2]d.slice\n", unitDir, i)
		fmt.Fprintf(&files, "cat >>%[1]s%[2]s.service <<'END'\n[Service]\nRestart=no\n%[3]s\nEND\n", unitDir, name, s.environment(layers))
		started = append(started, name+".service")
	}
	s.Feed(strings.NewReader(files.String()), "sh", "-e")
	s.Exec("systemctl", "daemon-reload")
	s.Exec("systemctl", "stop", attacker)
	out, startErr := s.Try(append([]string{"timeout", "120", "systemctl", "start", "--wait"}, started...)...)
	var got []map[string]breach.Attempt
	for i, unit := range started {
		printed := s.Exec("journalctl", "--no-pager", "--output=cat", "--unit="+unit)
		got = append(got, s.attempts(fmt.Sprintf("the runner without %s (%s %v)", names(away[i]), out, startErr), printed))
	}
	return got
}

// environment is the lines of a unit that take layers away and give orders.
func (s *site) environment(away []layer) string {
	orders, lines := s.orders, []string(nil)
	for _, l := range away {
		orders.Unsealed = orders.Unsealed || l.unsealed
		lines = append(lines, l.unit)
	}
	return strings.Join(append(lines, "Environment="+quote(breach.OrdersEnv+"="+text(orders))), "\n")
}

// quote makes one word of a unit file's assignment (systemd.syntax(7)).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(s) + `"`
}
