package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestOnThisMachineWithTheSupervisor(t *testing.T) {
	m := thisMachine(t)
	userDoesAll(t, m)
}

func TestOnAHostWithSystemd(t *testing.T) {
	m := hostWithSystemd(t)
	steps := []step{{"systemd runs the tenant's units", systemdShowsUnits}}
	if onVM() {
		steps = append(steps, step{"the clock jumps", clockJumps})
	}
	userDoesAll(t, m, steps...)
}

// clockJumps sets the clock forth and back: nothing restarts, requests go on,
// and what is desired still becomes what is. Each time with a new token: one of
// before was, to a clock that was set back, issued in the future.
func clockJumps(m *machine) {
	container := m.container("umbra")
	for i, jump := range []string{"+1 hour", "-3 hours", "+2 hours"} {
		m.run("date", "--set", jump)
		token := m.token("umbra")
		m.want("/umbra/hello?name=q", token, 200, `{"hello":"q"}`)
		m.deploy("umbra", "late", "late.js", fmt.Sprintf("module.exports = (cb) => cb(null, 'jump %d');", i))
		m.want("/umbra/late", token, 200, fmt.Sprintf("jump %d", i))
	}
	if now := m.container("umbra"); now != container {
		m.t.Errorf("the clock jumped, and container %s is %s", container, now)
	}
}

type step struct {
	name string
	do   func(*machine)
}

// One instance each: what is tried here is done to it.
const spec = `{"keys": [{"kid": "%s-1", "alg": "HS256", "secret": "0123456789-%s-0123456789abcdef"}], "replicas": {"max": 1}}`

func specOf(tenant string) string { return fmt.Sprintf(spec, tenant, tenant) }

// userDoesAll is a user's day. Each step goes on from the one before.
func userDoesAll(t *testing.T, m *machine, more ...step) {
	steps := []step{
		{"bring it up", func(m *machine) { m.up() }},
		{"register two tenants with etcdctl", register},
		{"deploy and invoke", deployAndInvoke},
		{"be refused, with the reason", beRefused},
		{"run code at once", runCode},
		{"every model answers", everyModel},
		{"deploy again, and the next call has it", deployAgain},
		{"rotate a key under two keys", rotate},
		{"a bad spec is told, and changes nothing", badSpec},
		{"the container is locked down", lockedDown},
		{"logs tell who said what", logsTell},
		{"idle instances sleep, and wake with the first request", sleepAndWake},
		{"the control plane is killed, and nothing restarts", killControlPlane},
	}
	steps = append(append(steps, more...), step{"take a tenant away", removeTenant}, step{"take everything down", takeDown})
	for _, s := range steps {
		ok := t.Run(s.name, func(t *testing.T) {
			defer func(old *testing.T) { m.t = old }(m.t)
			m.t = t
			s.do(m)
		})
		if !ok {
			log, _ := m.try("tail", "-n", "40", m.state+"/up.log")
			t.Fatalf("stopping after step %q\n%s", s.name, log)
		}
	}
}

func register(m *machine) {
	for _, tenant := range []string{"umbra", "globex-corp"} {
		m.put(tenant, specOf(tenant))
	}
	for _, tenant := range []string{"umbra", "globex-corp"} {
		m.await(tenant+" can be called", func() bool {
			return strings.Contains(m.bulkhead("tenant", "show", tenant, "-o", "json"), `"phase": "dormant"`)
		})
	}
	if out := m.bulkhead("tenant", "list"); !strings.Contains(out, "umbra") || !strings.Contains(out, "globex-corp") {
		m.t.Fatalf("list shows %s", out)
	}
}

func deployAndInvoke(m *machine) {
	for _, tenant := range []string{"umbra", "globex-corp"} {
		m.deploy(tenant, "hello", "hello.js", `module.exports = (ctx, cb) => { console.log('hello from', ctx.query.name); cb(null, { hello: ctx.query.name }); };`)
		m.want("/"+tenant+"/hello?name=you", m.token(tenant), 200, `{"hello":"you"}`)
		m.want("/api/run/"+tenant+"/hello?name=me", m.token(tenant, "--function", "hello"), 200, `{"hello":"me"}`)
	}
	m.want("/umbra/hello?name=q&key="+m.token("umbra"), "", 200, `{"hello":"q"}`)
}

func beRefused(m *machine) {
	umbra := m.token("umbra")
	m.want("/globex-corp/hello", umbra, 403, "was not issued by tenant")
	m.want("/umbra/hello", m.token("umbra", "--function", "other"), 403, "not for function")
	m.want("/umbra/hello", "", 401, "no token")
	m.want("/umbra/hello", umbra[:len(umbra)-4]+"AAAA", 403, "does not verify")
	m.want("/umbra/nothing", umbra, 404, "unable to resolve function")
	m.want("/nobody/hello", umbra, 404, "unable to resolve tenant")
}

func runCode(m *machine) {
	m.want("/api/run/umbra", m.token("umbra"), 200, "42", "--data-binary", "module.exports = async () => 6 * 7")
	m.want("/api/run/umbra", m.token("umbra", "--function", "hello"), 403, "named functions only", "--data-binary", "module.exports = 1")
	m.want("/api/run/umbra", m.token("umbra"), 400, "SyntaxError", "--data-binary", "module.exports = (")
}

func everyModel(m *machine) {
	tests := []struct{ file, source, want string }{
		{"cb.js", `module.exports = (cb) => cb(null, 'one');`, `"one"`},
		{"ctx.js", `module.exports = (ctx, cb) => cb(null, ctx.body);`, `{"a":1}`},
		{"res.js", `module.exports = (ctx, req, res) => { res.writeHead(200, { 'content-type': 'text/plain' }); req.pipe(res); };`, `{"a":1}`},
		{"async.js", `module.exports = async (ctx) => ({ method: ctx.body.a + 1 });`, `{"method":2}`},
		{"return.js", `return (ctx, cb) => cb(null, 'returned');`, `"returned"`},
		{"esm.mjs", `export default async (ctx) => ({ esm: true });`, `{"esm":true}`},
		{"fetch.mjs", `export default { async fetch(request) { return new Response('got ' + await request.text()); } };`, `got {"a":1}`},
		{"types.ts", `const f = async (ctx: { body: { a: number } }): Promise<number> => ctx.body.a; export default f;`, `1`},
	}
	token := m.token("umbra")
	for _, tt := range tests {
		name := strings.ReplaceAll(tt.file, ".", "-")
		m.deploy("umbra", name, tt.file, tt.source)
		m.want("/umbra/"+name, token, 200, tt.want, "-H", "content-type: application/json", "--data-binary", `{"a":1}`)
	}
}

func deployAgain(m *machine) {
	token := m.token("umbra")
	for i := range 3 {
		m.deploy("umbra", "changing", "changing.js", fmt.Sprintf("module.exports = (cb) => cb(null, 'version %d');", i))
		m.want("/umbra/changing", token, 200, fmt.Sprintf("version %d", i))
	}
}

func rotate(m *machine) {
	old := m.token("umbra")
	both := `{"keys": [{"kid": "umbra-1", "alg": "HS256", "secret": "0123456789-umbra-0123456789abcdef"}, {"kid": "umbra-2", "alg": "HS256", "secret": "another-secret-of-thirty-two-bytes!"}]}`
	m.put("umbra", both)
	m.await("the new key is in force", func() bool {
		status, _ := m.call("/umbra/hello?name=x", m.token("umbra", "--kid", "umbra-2"))
		return status == 200
	})
	m.want("/umbra/hello?name=x", old, 200, "x")
	m.put("umbra", strings.Replace(both, `{"kid": "umbra-1", "alg": "HS256", "secret": "0123456789-umbra-0123456789abcdef"}, `, "", 1))
	m.await("the old key is gone", func() bool {
		status, _ := m.call("/umbra/hello?name=x", old)
		return status == 403
	})
}

func badSpec(m *machine) {
	token := m.token("umbra")
	for spec, says := range map[string]string{
		`{"keys": [], "limits": {"wal": "1s"}}`: `did you mean`,
		`{"keys": [`:                            `line 1`,
		strings.Repeat("x", 100<<10):            `JSON`,
	} {
		m.put("umbra", spec)
		m.await("the status says "+says, func() bool { return strings.Contains(fmt.Sprint(m.show("umbra")), says) })
		m.want("/umbra/hello?name=still", token, 200, "still")
	}
	m.put("umbra", strings.Replace(specOf("umbra"), "umbra-1", "umbra-3", 1))
	m.await("a good spec is in force again", func() bool {
		status, _ := m.call("/umbra/hello?name=x", m.token("umbra"))
		return status == 200
	})
}

func lockedDown(m *machine) {
	const look = `{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.NetworkMode}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} user={{.Config.User}} env={{.Config.Env}}`
	out := m.run("docker", "inspect", "--format", look, m.container("umbra"))
	for _, want := range []string{"true none [ALL] [no-new-privileges", "134217728 500000000 64", "user=40"} {
		if !strings.Contains(out, want) {
			m.t.Errorf("docker inspect shows no %q: %s", want, out)
		}
	}
	if strings.Contains(out, "secret") {
		m.t.Errorf("docker inspect shows a secret: %s", out)
	}
	m.deploy("umbra", "probe", "probe.js", `
const fs = require('fs'), net = require('net'), os = require('os');
const attempt = (f) => { try { return String(f()); } catch (e) { return e.code || e.message; } };
module.exports = async (ctx) => ({
  uid: process.getuid(),
  write: attempt(() => fs.writeFileSync('/run/cell/x', '')),
  spawn: attempt(() => require('child_process').execFileSync('/bin/sh')),
  interfaces: Object.keys(os.networkInterfaces()),
  env: Object.keys(process.env).filter((k) => /BULKHEAD|NODE_CHANNEL/.test(k)),
  headers: Object.keys(ctx.headers).filter((k) => k === 'authorization'),
});`)
	status, body := m.call("/umbra/probe", m.token("umbra"))
	for _, want := range []string{`"uid":40`, `"interfaces":` + m.links, `"env":[]`, `"headers":[]`} {
		if status != 200 || !strings.Contains(body, want) {
			m.t.Errorf("the probe answers %d without %s: %s", status, want, body)
		}
	}
	if strings.Contains(body, `"write":"undefined"`) || strings.Contains(body, `"spawn":""`) {
		m.t.Errorf("the probe got through: %s", body)
	}
}

func logsTell(m *machine) {
	m.await("the log has the line", func() bool {
		return strings.Contains(m.bulkhead("logs", "umbra/hello", "--state", m.state), "hello from you")
	})
	if out := m.bulkhead("logs", "globex-corp", "--tail", "0", "--state", m.state); strings.Contains(out, "hello from q") {
		m.t.Fatalf("globex-corp's log has umbra's line: %s", out)
	}
}

// killControlPlane kills scheduler, agent and etcd at once, as one process
// here, and looks whether anything that tenants use has been restarted.
func killControlPlane(m *machine) {
	token := m.token("umbra")
	m.want("/umbra/hello?name=before", token, 200, "before")
	before := m.running()
	pid := m.pid()
	m.run("kill", "-9", fmt.Sprint(pid))
	m.awaitGone(pid)
	m.want("/umbra/hello?name=without", token, 200, "without")
	m.up()
	m.want("/umbra/hello?name=after", token, 200, "after")
	m.deploy("umbra", "changing", "changing.js", "module.exports = (cb) => cb(null, 'after the kill');")
	m.want("/umbra/changing", token, 200, "after the kill")
	m.t.Logf("goes on:\n%s", before)
	if after := m.running(); after != before {
		m.t.Fatalf("before:\n%s\nafter:\n%s", before, after)
	}
}

// running names the tenant's container, its runner and the proxy by what
// changes when one is started again.
func (m *machine) running() string {
	m.t.Helper()
	container := m.run("docker", "inspect", "--format", "{{.Name}} {{.State.Pid}} {{.State.StartedAt}}", m.container("umbra"))
	return container + "runner " + m.pidOf("bulkhead-umbra-0.service") + "proxy " + m.pidOf("bulkhead-proxy.service")
}

func systemdShowsUnits(m *machine) {
	m.want("/umbra/hello?name=x", m.token("umbra"), 200, "x")
	for unit, want := range map[string]string{
		"bulkhead-umbra-0.socket":  "active",
		"bulkhead-umbra-0.service": "active",
		"bulkhead-umbra-0.slice":   "active",
		"bulkhead-umbra.slice":     "active",
		"bulkhead-proxy.service":   "active",
	} {
		if out, _ := m.try("systemctl", "is-active", unit); strings.TrimSpace(out) != want {
			status, _ := m.try("systemctl", "status", "--no-pager", unit)
			m.t.Errorf("%s is %s\n%s", unit, out, status)
		}
	}
	out := m.run("systemctl", "show", "bulkhead-umbra-0.service", "--property=Slice,RootDirectory,PrivateNetwork,NoNewPrivileges,DynamicUser,CapabilityBoundingSet,Environment")
	for _, want := range []string{"Slice=bulkhead-umbra-0.slice", "PrivateNetwork=yes", "NoNewPrivileges=yes", "DynamicUser=yes", "CapabilityBoundingSet=\n"} {
		if !strings.Contains(out+"\n", want) {
			m.t.Errorf("systemctl show has no %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "secret") {
		m.t.Errorf("systemctl show tells a secret:\n%s", out)
	}
	if out := m.run("docker", "inspect", "--format", "{{.HostConfig.CgroupParent}}", m.container("umbra")); strings.TrimSpace(out) != "bulkhead_cells.slice" {
		m.t.Errorf("the container is in %s, want the slice of cells", out)
	}
	out = m.run("journalctl", "--no-pager", "-o", "json", "TENANT=umbra", "FUNCTION=hello")
	for _, want := range []string{`"MESSAGE":"hello from you"`, `"REQUEST_ID":"`, `"_SYSTEMD_UNIT":"bulkhead-umbra-0.service"`, `"PRIORITY":"6"`} {
		if !strings.Contains(out, want) {
			m.t.Errorf("the journal has no %s: %s", want, out)
		}
	}
}

func removeTenant(m *machine) {
	m.want("/globex-corp/hello?name=x", m.token("globex-corp"), 200, "x")
	container := m.container("globex-corp")
	m.bulkhead("tenant", "rm", "globex-corp", "--purge")
	m.await("globex-corp's container is gone", func() bool { return !strings.Contains(m.run("docker", "ps", "-a", "--no-trunc"), container) })
	m.await("nobody routes to globex-corp", func() bool {
		status, _ := m.call("/globex-corp/hello", m.token("umbra"))
		return status == 404
	})
	m.want("/umbra/hello?name=x", m.token("umbra"), 200, "x")
}

func takeDown(m *machine) {
	m.bulkhead("down", "--host", m.hostName(), "--state", m.state, "--run", m.runs)
	for what, command := range map[string]string{
		"containers":  "docker ps -aq --filter label=io.bulkhead.host=" + m.hostName(),
		"directories": "ls -d " + m.runs + " 2>/dev/null || true",
		"mounts":      "grep -F " + m.runs + " /proc/mounts || true",
		"units":       "ls -d /run/systemd/system/bulkhead-*.s* 2>/dev/null | grep -v bulkhead-up || true",
	} {
		if out := m.run("sh", "-c", command); strings.TrimSpace(out) != "" {
			m.t.Errorf("%s are left: %s", what, out)
		}
	}
}

// hostName is the host's name in the cluster.
func (m *machine) hostName() string { return m.name }
