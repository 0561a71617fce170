package host

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// ordered is a host that is told what to do, as by a scheduler.
type ordered struct {
	*Host
	t    *testing.T
	etcd *clientv3.Client
	n    int
}

// tell makes hosts whose orders are the test's: their schedulers, who would
// take away what is part of no cycle, are stopped.
func tell(t *testing.T, c *Fleet) []*ordered {
	t.Helper()
	var all []*ordered
	for _, h := range c.Hosts {
		h.Exec("sh", "-c", "systemctl disable --now bulkhead-scheduler.service 2>/dev/null || true")
		all = append(all, &ordered{Host: h, t: t, etcd: c.Client()})
	}
	return all
}

// order gives the host an order, and returns its ID.
func (o *ordered) order(order cluster.Order) string {
	o.t.Helper()
	o.n++
	order.ID = fmt.Sprint("order-", o.n)
	value, err := json.Marshal(order)
	if err == nil {
		_, err = o.etcd.Put(o.t.Context(), cluster.OrderKey(o.Node), string(value))
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return order.ID
}

func (o *ordered) withdraw() {
	o.t.Helper()
	if _, err := o.etcd.Delete(o.t.Context(), cluster.OrderKey(o.Node)); err != nil {
		o.t.Fatal(err)
	}
}

// await waits for a value of a key that is so.
func await[T any](t *testing.T, cli *clientv3.Client, key string, within time.Duration, so func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var last T
	for b := range etcd.Follow(ctx, cli, etcd.Prefix{Name: key, Exact: true}) {
		for _, e := range b.Events {
			last = *new(T)
			if err := json.Unmarshal(e.Value, &last); err == nil && so(last) {
				return last
			}
		}
	}
	t.Fatalf("%s is not so within %v, but %+v", key, within, last)
	return last
}

// report waits until an order has this state.
func (o *ordered) report(id, state string) cluster.Report {
	o.t.Helper()
	return await(o.t, o.etcd, cluster.ReportKey(o.Node), 3*time.Minute, func(r cluster.Report) bool {
		if r.Order == id && r.State == cluster.OrderFailed && state != cluster.OrderFailed {
			o.t.Fatalf("order %s failed: %s", id, r.Error)
		}
		return r.Order == id && r.State == state
	})
}

// do has an order carried out.
func (o *ordered) do(order cluster.Order) cluster.Report {
	o.t.Helper()
	return o.report(o.order(order), cluster.OrderDone)
}

// ready waits until the host's proxy says so to a balancer, or says the
// opposite; meanwhile it always says that it is alive.
func (o *ordered) ready(want bool) {
	o.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		status := 0
		r, err := http.Get(o.Proxy() + "/-/readyz")
		if err == nil {
			r.Body.Close()
			status = r.StatusCode
		}
		if status == 200 == want && status != 0 {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("the proxy of host %s answers %d (error %v), want ready: %v", o.Node, status, err, want)
		}
		time.Sleep(50 * time.Millisecond) // a balancer asks now and then, too
	}
}

// A host is told to leave, to run actions that its own configuration declares,
// to reboot; and its machine's updates get their turn as Zincati asks for it.
func TestHostCarriesOutOrders(t *testing.T) {
	o := tell(t, Cluster(t, 1))[0]
	o.ready(true)
	if r := o.do(cluster.Order{Leave: true}); !r.Left {
		t.Errorf("it has not left: %+v", r)
	}
	o.ready(false)
	o.withdraw()
	o.ready(true)

	o.Exec("sh", "-c", "printf '[Service]\\nType=oneshot\\nExecStart=sh -c \"echo once >>/etc/ran; sleep 3\"\\n' >/etc/systemd/system/bulkhead-action-mine.service; systemctl daemon-reload")
	r := o.report(o.order(cluster.Order{Action: "yours"}), cluster.OrderFailed)
	if !strings.Contains(r.Error, "there are mine, reboot") {
		t.Errorf("an action that there is not: %q", r.Error)
	}
	id := o.order(cluster.Order{Action: "mine"})
	o.report(id, cluster.OrderDoing)
	o.Exec("systemctl", "kill", "--signal=KILL", "bulkhead-agent.service")
	o.report(id, cluster.OrderDone)
	if ran := o.Exec("cat", "/etc/ran"); ran != "once\n" {
		t.Errorf("the action ran %q", ran)
	}
	o.Exec("sh", "-c", "printf '[Service]\\nType=oneshot\\nExecStart=false\\n' >/etc/systemd/system/bulkhead-action-mine.service; systemctl daemon-reload")
	if r := o.report(o.order(cluster.Order{Action: "mine"}), cluster.OrderFailed); !strings.Contains(r.Error, "journalctl -u bulkhead-action-mine.service") {
		t.Errorf("an action that fails: %q", r.Error)
	}
	t.Run("reboot", o.reboots)
	t.Run("FleetLock", o.locks)
}

func (o *ordered) present() cluster.Host {
	return await(o.t, o.etcd, cluster.HostKey(o.Node), time.Minute, func(cluster.Host) bool { return true })
}

func (o *ordered) reboots(t *testing.T) {
	before := o.present()
	began := time.Now()
	r := o.do(cluster.Order{Leave: true, Action: "reboot"})
	if now := o.present(); now.Boot == before.Boot || !r.Left {
		t.Errorf("boot %s, before it %s, report %+v", now.Boot, before.Boot, r)
	}
	o.ready(true)
	t.Logf("a reboot took %v", time.Since(began).Round(time.Second))
	o.withdraw()
}

// zincati asks on the host as Zincati does, and returns what it gets.
func (o *ordered) zincati(path string) string {
	o.t.Helper()
	return o.Exec("sh", "-c", `id=$(systemd-id128 machine-id --app-specific=de35106b6ec24688b63afddaa156679b) && curl --silent --max-time 1800 --output /dev/null --write-out '%{http_code}' \
		--header 'fleet-lock-protocol: true' --header 'Content-Type:' --data "{\"client_params\":{\"id\":\"$id\",\"group\":\"default\"}}" http://127.0.0.1:8090/v1/`+path)
}

func (o *ordered) locks(t *testing.T) {
	asks := func(wanted bool) func(cluster.Ask) bool {
		return func(a cluster.Ask) bool { return a.Wanted == wanted && a.Group == "default" && len(a.ID) == 32 }
	}
	if got := o.zincati("steady-state"); got != "200" {
		t.Errorf("what it does not hold: %s", got)
	}
	granted := make(chan string)
	go func() { granted <- o.zincati("pre-reboot") }()
	await(t, o.etcd, cluster.AskKey(o.Node), time.Minute, asks(true))
	o.do(cluster.Order{Leave: true, Granted: true})
	if got := <-granted; got != "200" {
		t.Errorf("granted: %s", got)
	}
	o.ready(false)
	o.Reboot()
	o.ready(true)
	given := make(chan string)
	go func() { given <- o.zincati("steady-state") }()
	await(t, o.etcd, cluster.AskKey(o.Node), time.Minute, asks(false))
	o.withdraw()
	if got := <-given; got != "200" {
		t.Errorf("given back: %s", got)
	}
}
