package host

import (
	"context"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

// rollOut begins a rollout, whose gates are short, and waits until it is done.
func (o *ordered) rollOut(c *Fleet, id string, args ...string) {
	o.t.Helper()
	began := time.Now()
	c.Bulkhead(append([]string{"rollout", "start", "--id", id, "--steady", "1s", "--watch-for", "1s", "--back", "3m"}, args...)...)
	await(o.t, o.etcd, cluster.RolloutStatusKey(id), 8*time.Minute, func(s cluster.RolloutStatus) bool {
		if s.Phase == cluster.RolloutStopped {
			o.t.Fatalf("rollout %s stopped: %s", id, s.Reason)
		}
		return s.Phase == cluster.RolloutDone
	})
	o.t.Logf("rollout %s took %v", id, time.Since(began).Round(time.Second))
}

// The real scheduler takes real hosts through rollouts of each kind.
func TestRolloutsTakeHostsThroughEachKindOfPatch(t *testing.T) {
	c := Cluster(t, 2)
	var hosts []*ordered
	var before []cluster.Host
	for _, h := range c.Hosts {
		hosts = append(hosts, &ordered{Host: h, t: t, etcd: c.Client()})
		before = append(before, hosts[len(hosts)-1].present())
	}
	next := c.release(false)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- c.fleet.Serve(ctx) }()
	patched := hosts[0].variant(before[0].Image, "LABEL patched=yes")

	hosts[0].rollOut(c, "system", "os")
	hosts[0].rollOut(c, "image", "image", "--image", patched, "--host", "h1", "--host", "h2")
	hosts[0].rollOut(c, "release", "agent", "--release", next)
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	for i, o := range hosts {
		now := o.present()
		if now.Boot == before[i].Boot || now.Image != patched || now.Versions[cluster.Release] != next || now.Unready != "" {
			t.Errorf("host %s is %+v", o.Node, now)
		}
		o.ready(true)
		o.Exec("systemctl", "is-active", "bulkhead-proxy.service")
	}
	dir := "/opt/bulkhead/releases/" + cluster.ReleaseDir(next) + "/bulkhead"
	if got := strings.TrimSpace(hosts[0].Exec("sh", "-c", "readlink /proc/$(systemctl show --property MainPID --value bulkhead-scheduler)/exe")); got != dir {
		t.Errorf("the scheduler is %s, want %s", got, dir)
	}
}
