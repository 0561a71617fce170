package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/agent/egress/egresstest"
)

// connector is a function that connects to where it is told, and answers with
// what came of it.
const connector = `const net = require('net');
module.exports = (ctx, cb) => {
  const socket = net.connect({ host: ctx.query.host, port: Number(ctx.query.port), timeout: 5000 });
  socket.on('connect', () => socket.write('hello'));
  socket.on('data', (data) => { socket.destroy(); cb(null, String(data)); });
  socket.on('timeout', () => { socket.destroy(); cb(null, 'TIMEOUT'); });
  socket.on('error', (err) => cb(null, err.code));
};`

func TestFunctionsConnectToWhatTheirTenantMay(t *testing.T) {
	w := egresstest.New(t)
	w.Says("api.example.com.", "A", egresstest.Site2)
	w.Says("rebind.example.com.", "A", egresstest.Metadata)
	m := machineIn(t, []string{"nsenter", "--net=" + w.HostPath()}, "--resolv-conf", w.Resolv)
	m.up()
	key := `{"keys":[{"kid":"k","alg":"HS256","secret":"` + strings.Repeat("s", 32) + `"}]`
	m.put("open", key+`}`)
	m.put("named", key+`,"egress":{"allow":["*.example.com"]}}`)
	for _, tenant := range []string{"open", "named"} {
		m.deploy(tenant, "connect", "connect.js", connector)
		m.await(tenant+" serves", func() bool {
			status, _ := m.call("/"+tenant+"/connect?host=127.0.0.1&port=9", m.token(tenant))
			return status == 200
		})
	}
	for _, c := range []struct{ tenant, host, port, want string }{
		{"open", egresstest.Site, "80", "hello"}, {"open", egresstest.Site6, "443", "hello"}, {"open", "api.example.com", "80", "hello"},
		{"open", egresstest.Metadata, "80", "EHOSTUNREACH"}, {"open", egresstest.Private, "80", "EHOSTUNREACH"}, {"open", egresstest.HostPublic, "2379", "EHOSTUNREACH"},
		{"open", egresstest.HostPrivate6, "2375", "EACCES"}, {"open", "rebind.example.com", "80", "ENOTFOUND"}, {"open", "127.0.0.1", "22", "ECONNREFUSED"},
		{"named", egresstest.Site2, "80", "EHOSTUNREACH"}, {"named", "api.example.com", "80", "hello"}, {"named", egresstest.Site2, "80", "hello"},
		{"named", egresstest.Site, "80", "EHOSTUNREACH"}, {"named", "other.org", "80", "ENOTFOUND"}, {"named", "rebind.example.com", "80", "ENOTFOUND"},
	} {
		m.want("/"+c.tenant+"/connect?host="+c.host+"&port="+c.port, m.token(c.tenant), 200, c.want)
	}
	if found, _ := filepath.Glob("/run/netns/bh-*"); len(found) != 1 {
		t.Errorf("routers: %v", found)
	}
	m.put("open", key+`,"egress":{"allow":[]}}`)
	m.await("open gets out no more", func() bool {
		_, body := m.call("/open/connect?host="+egresstest.Site+"&port=80", m.token("open"))
		return strings.Contains(body, "EHOSTUNREACH")
	})
}
