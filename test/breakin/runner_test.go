package breakin

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/test/breakin/breach"
)

// Whoever takes the real runner over, in its own unit as the agent runs it, gets
// nothing.
func TestRunner(t *testing.T) {
	s := newSite(t)
	dropIn := "/run/systemd/system/" + attacker + ".d/orders.conf"
	s.Exec("mkdir", "-p", "/run/systemd/system/"+attacker+".d")
	s.Feed(strings.NewReader("[Service]\nEnvironment="+quote(breach.OrdersEnv+"="+text(s.orders))+"\n"), "sh", "-c", "cat >"+dropIn)
	s.Exec("systemctl", "daemon-reload")
	s.Exec("systemctl", "stop", attacker)
	out, err := s.Try("systemctl", "start", "--wait", attacker)
	t.Log(out, err)
	printed := s.Exec("journalctl", "--no-pager", "--output=cat", "--unit="+attacker)
	for name, a := range s.attempts(attacker, printed) {
		fmt.Println(name, a.Through, a.Says)
	}
}

// quote makes one word of a unit file's assignment (systemd.syntax(7)).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(s) + `"`
}
