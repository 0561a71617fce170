package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// The next request after the command has returned is refused, also while the runner sleeps,
// and when everything has started again.
func TestARevokedTokenIsRefusedFromTheNextRequestOn(t *testing.T) {
	m := thisMachine(t)
	m.up()
	h := newHoard(m)
	m.put("umbra", strings.Replace(specOf("umbra"), `"replicas"`, `"sleep": {"freeze": "1s", "dormant": "2s"}, "replicas"`, 1))
	m.await("umbra can be called", func() bool {
		return strings.Contains(m.bulkhead("tenant", "show", "umbra"), "umbra.0 on "+m.name+": dormant")
	})
	m.deploy("umbra", "hello", "hello.js", `module.exports = (ctx, cb) => cb(null, 'hello');`)
	asleep := func() {
		m.await("umbra sleeps", func() bool { return strings.Contains(m.bulkhead("tenant", "show", "umbra"), ": dormant") })
	}
	refused := func(token string) {
		t.Helper()
		m.want("/umbra/hello", token, 401, "token_revoked")
	}
	good := m.token("umbra")
	for i := range 5 {
		bad := m.token("umbra")
		m.want("/umbra/hello", bad, 200, "hello")
		m.bulkhead("token", "revoke", "umbra", "--token-file", h.file(fmt.Sprint("token-", i), bad))
		refused(bad)
		m.want("/umbra/hello", good, 200, "hello")
	}
	bad := m.token("umbra")
	m.want("/umbra/hello", bad, 200, "hello")
	asleep()
	m.bulkhead("token", "revoke", "umbra", "--token-file", h.file("token", bad))
	refused(bad)
	m.want("/umbra/hello", good, 200, "hello")
	pid := m.pid()
	m.run("kill", "-9", fmt.Sprint(pid))
	m.awaitGone(pid)
	refused(bad)
	m.up()
	refused(bad)
	m.bulkhead("token", "revoke", "umbra", "--all")
	refused(good)
	m.await("tokens issued later are good", func() bool { status, _ := m.call("/umbra/hello", m.token("umbra")); return status == 200 })
	refused(good)
}
