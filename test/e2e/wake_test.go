package e2e

import (
	"fmt"
	"strings"
)

// sleepAndWake puts an idle tenant to sleep, and wakes it with one request and
// with a thousand at once.
func sleepAndWake(m *machine) {
	idle := fmt.Sprintf(`, "sleep": {"freeze": "1s", "dormant": %q}, "limits": {"rate": 0, "concurrency": 2000}}`, m.dormant)
	m.put("sleepy", strings.TrimSuffix(specOf("sleepy"), "}")+idle)
	m.await("sleepy is placed", func() bool { return m.phase("sleepy") == "dormant" })
	m.deploy("sleepy", "hello", "hello.js", `module.exports = (ctx, cb) => { console.log('woke for', ctx.query.i); cb(null, { hello: ctx.query.i }); };`)
	token := m.token("sleepy")
	if m.phase("sleepy") != "dormant" {
		m.t.Error("a deploy woke the instance")
	}

	m.want("/sleepy/hello?i=first", token, 200, "first")
	first := m.container("sleepy")
	frozen := fmt.Sprintf(`p=$(docker inspect -f '{{.State.Pid}}' %s)
if [ -e /sys/fs/cgroup/cgroup.controllers ]
then cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$p/cgroup)/cgroup.freeze
else cat /sys/fs/cgroup/freezer$(sed -n 's/.*:freezer:\(.*\)/\1/p' /proc/$p/cgroup)/freezer.state
fi`, first)
	m.await("the container is frozen", func() bool {
		out, _ := m.try("sh", "-c", frozen)
		return strings.Contains(out, "FROZEN") || strings.TrimSpace(out) == "1"
	})
	m.want("/sleepy/hello?i=thawed", token, 200, "thawed")
	if again := m.container("sleepy"); again != first {
		m.t.Errorf("thawing changed the container from %.12s to %.12s", first, again)
	}

	m.sleeps("sleepy", first)
	for range 3 {
		out := m.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{time_total}", "-H", "Authorization: Bearer "+token, m.proxy+"/sleepy/hello?i=timed")
		m.t.Logf("first request to a dormant instance: %s s", out)
		m.sleeps("sleepy", m.container("sleepy"))
	}
	before := m.wakes("sleepy")
	out := m.run("curl", "-sS", "-Z", "--parallel-max", "300", "-o", "/dev/null", "-w", `%{http_code}\n`, "-H", "Authorization: Bearer "+token, m.proxy+"/sleepy/hello?i=[1-1000]")
	n := 0
	for _, line := range strings.Fields(out) { // what else curl prints has numbers too
		if line == "200" {
			n++
		}
	}
	if n != 1000 {
		m.t.Errorf("%d of 1000 requests to a sleeping tenant got 200", n)
	}
	if n := m.wakes("sleepy") - before; n != 1 {
		m.t.Errorf("a thousand requests woke the instance %d times", n)
	}
	if second := m.container("sleepy"); second == first {
		m.t.Error("the instance got a container back that it had given up")
	}
	m.deploy("sleepy", "later", "later.js", `module.exports = (ctx, cb) => {
  ctx.waitUntil(new Promise((done) => setTimeout(() => { console.log('done in the background'); done(); }, 5000)));
  cb(null, 'soon');
};`)
	m.want("/sleepy/later", token, 200, "soon")
	had := m.container("sleepy")
	m.await("work that waitUntil holds on to keeps the instance up", func() bool {
		return strings.Contains(m.bulkhead("logs", "sleepy/later", "--state", m.state), "done in the background")
	})
	m.sleeps("sleepy", had)
	m.await("the log outlives the container that wrote it", func() bool {
		out := m.bulkhead("logs", "sleepy", "--tail", "0", "--state", m.state)
		return strings.Contains(out, "woke for first") && strings.Contains(out, "woke for 1000")
	})
}

// sleeps waits until a tenant's instance sleeps, having had a container.
func (m *machine) sleeps(tenant, had string) {
	m.t.Helper()
	m.await(tenant+" sleeps", func() bool { return m.phase(tenant) == "dormant" })
	m.await("its container is gone", func() bool { return !strings.Contains(m.run("docker", "ps", "-a", "--no-trunc"), had) })
}

func (m *machine) phase(tenant string) string {
	m.t.Helper()
	all, _ := m.show(tenant)["instances"].([]any)
	if len(all) == 0 {
		return ""
	}
	phase, _ := all[0].(map[string]any)["phase"].(string)
	return phase
}

// wakes counts how often a tenant's first instance has been woken.
func (m *machine) wakes(tenant string) int {
	m.t.Helper()
	out, _ := m.try("grep", "-c", "instance is awake.*instance="+tenant+".0", m.state+"/up.log")
	n := 0
	fmt.Sscan(out, &n)
	return n
}
