package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

func sized(name, zone, memory string, cpu float64) cluster.Host {
	h := testHost(name, zone)
	h.Capacity.Memory, _ = cluster.ParseBytes(memory)
	h.Capacity.CPU = cpu
	return h
}

func TestPlacing(t *testing.T) {
	for _, c := range []struct {
		sentence string
		hosts    []cluster.Host
		spec     string
		where    string
		says     string
	}{
		{"no host at all", nil, "", "", "no host is present: is an agent running"},
		{"one host", []cluster.Host{testHost("h1", "")}, "", "acme.0@h1", "h1 is the only host that takes it"},
		{"the emptier host", []cluster.Host{sized("h1", "", "200MiB", 4), sized("h2", "", "2GiB", 4)}, "", "acme.0@h2", "most room of 2 hosts"},
		{"two instances on two hosts", []cluster.Host{sized("h1", "", "200MiB", 4), sized("h2", "", "2GiB", 4)},
			`"replicas":{"min":2}`, "acme.0@h2 acme.1@h1", "acme.1 is on h1"},
		{"more instances than hosts share them", []cluster.Host{testHost("h1", ""), testHost("h2", "")},
			`"replicas":{"min":4}`, "", "placed"},
		{"a label narrows", []cluster.Host{testHost("h1", "a"), testHost("h2", "b")}, `"placement":{"labels":{"zone":"b"}}`, "acme.0@h2", ""},
		{"a label nobody has", []cluster.Host{testHost("h1", "a")}, `"placement":{"labels":{"zone":"c"}}`, "", "h1 has no zone=c"},
		{"spread over zones", []cluster.Host{testHost("h1", "a"), testHost("h2", "a"), sized("h3", "b", "1GiB", 2)},
			`"replicas":{"min":2},"placement":{"spread":"zone"}`, "", "zone=b has 0 of its instances"},
		{"too little memory", []cluster.Host{sized("h1", "a", "300MiB", 4), sized("h2", "a", "100MiB", 4)},
			`"resources":{"memory":"512MiB"},"placement":{"labels":{"zone":"a"}}`, "",
			"no host has 512MiB, 0.5 cores and 64 pids free with zone=a: h1 has 300MiB free, h2 has 100MiB free"},
		{"too few cores", []cluster.Host{sized("h1", "", "2GiB", 0.25)}, "", "", "h1 has 0.25 cores free"},
		{"some fit, some don't", []cluster.Host{sized("h1", "", "200MiB", 4)}, `"replicas":{"min":2}`, "acme.0@h1", "acme.1 waits: no host has 128MiB"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			f := newFixture(t)
			for _, h := range c.hosts {
				f.host(h)
			}
			f.tenant("acme", c.spec)
			f.settle()
			if c.where != "" || len(c.hosts) == 0 {
				f.is("placements", f.where("acme"), c.where)
			}
			f.says("acme", c.says)
		})
	}
}

func TestInstancesThatMaySleepShareRoom(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "", "1GiB", 100))
	for i := range 100 {
		f.tenant(fmt.Sprintf("t%d", i), `"sleep":{"dormant":"15m"}`)
	}
	f.settle()
	if n := len(f.model.hosts["h1"].placed); n != 100 {
		t.Errorf("%d of 100 tenants are placed, which are 12.5 GiB of memory together on 1 GiB", n)
	}
	// Kept ready it counts whole, however it would sleep otherwise.
	f.tenant("t7", `"sleep":{"dormant":"15m"},"replicas":{"min":1},"resources":{"memory":"700MiB"}`)
	f.settle()
	f.says("t7", "no host has 700MiB, 0.5 cores and 64 pids free: h1 has 624MiB free")
}

func TestReservationsAddUp(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "", "1GiB", 100))
	for i := range 10 {
		f.tenant(fmt.Sprintf("t%d", i), "")
	}
	f.settle()
	if n := len(f.model.hosts["h1"].placed); n != 8 || len(f.model.waiting) != 2 {
		t.Fatalf("%d placed, %d waiting", n, len(f.model.waiting))
	}
	// One that goes makes room for one that waits.
	f.del(cluster.TenantKey("t0"), cluster.AppliedKey("t0"))
	f.settle()
	if n := len(f.model.hosts["h1"].placed); n != 8 || len(f.model.waiting) != 1 {
		t.Fatalf("after one went: %d placed, %d waiting", n, len(f.model.waiting))
	}
	f.host(sized("h2", "", "1GiB", 100))
	f.settle()
	if len(f.model.waiting) != 0 {
		t.Fatal("a new host did not help")
	}
}

func TestSticky(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "a", "512MiB", 4))
	f.tenant("acme", "")
	f.settle()
	f.wrote()
	f.host(sized("h2", "a", "8GiB", 64))
	f.settle()
	f.relist()
	f.settle()
	if w := f.wrote(); len(w) > 0 {
		t.Errorf("a better host, a fresh list: wrote %q", w)
	}
	f.put(cluster.CordonKey("h1"), "disk is dying")
	f.settle()
	f.is("after a cordon", f.where("acme"), "acme.0@h1")
	f.tenant("bob", `"placement":{"labels":{"zone":"a"}}`)
	f.del(cluster.HostKey("h2"))
	f.settle()
	f.says("bob", "h1 is cordoned")
}

func TestInvalidIsNotAbsent(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.tenant("bob", "")
	f.settle()
	f.wrote()
	good := f.status("acme")
	for _, bad := range []string{"", "null", "{", specJSON(`"limits":{"wal":"1s"}`), specJSON(`"name":"bob"`), "\x00\xff", strings.Repeat("x", 300<<10)} {
		f.put(cluster.TenantKey("acme"), bad)
		f.settle()
		s := f.status("acme")
		if s.Phase != cluster.PhaseInvalid || s.Error == "" || s.Observed != f.revision-1 && s.Observed >= f.revision || s.Applied != good.Applied {
			t.Errorf("%.40q: status %+v", bad, s)
		}
		f.is("placements", f.where("acme"), "acme.0@h1")
	}
	f.relist() // a new leader
	f.settle()
	f.is("after a relist", f.where("acme"), "acme.0@h1")
	for _, key := range f.wrote() {
		if key != "status/tenants/acme" {
			t.Errorf("an invalid spec of acme's made us write %s", key)
		}
	}
	f.tenant("acme", `"replicas":{"min":2}`)
	f.settle()
	f.is("a good one again", f.where("acme"), "acme.0@h1 acme.1@h1")
	// One that never was valid has nothing.
	f.put(cluster.TenantKey("carl"), "{}")
	f.settle()
	f.says("carl", "keys: is missing")
	f.is("carl", f.where("carl"), "")
	f.put(cluster.TenantKey("Not_A_Name"), specJSON(""))
	f.settle()
	f.says("Not_A_Name", "tenant name")
}

func TestAppliedUnderLaxerRules(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", `"resources":{"memory":"1GiB"}`)
	f.settle()
	lax := specJSON(`"resources":{"memory":"1GiB"},"gone":{}`)
	f.put(cluster.TenantKey("acme"), lax)
	f.put(cluster.AppliedKey("acme"), lax)
	f.settle()
	f.relist()
	f.settle()
	f.is("its memory", f.placement("h1", "acme.0").Resources.Memory.String(), "1GiB")
	f.says("acme", "gone: unknown key")
}

func TestRemoval(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", `"replicas":{"min":2}`)
	f.settle()
	f.put(cluster.FunctionKey("acme", "hello"), "the tenant's own")
	f.del(cluster.TenantKey("acme"))
	f.settle()
	if len(f.keys) != 2 {
		t.Errorf("left: %v", f.keys)
	}
	f.del(cluster.FunctionKey("acme", "hello"))
	f.settle()
	if f.model.tenants["acme"] != nil || len(f.model.hosts["h1"].placed) != 0 || f.model.hosts["h1"].used != (cluster.Resources{}) {
		t.Error("the model still holds some of it")
	}
}

func TestHostGone(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.settle()
	f.ready()
	f.host(testHost("h2", ""))
	f.lose("h1")
	f.settle()
	f.wait(grace - time.Second)
	f.is("within the grace", f.where("acme"), "acme.0@h1")
	f.host(testHost("h1", ""))
	f.settle()
	f.lose("h1")
	f.wait(grace - time.Second)
	f.is("it came back and went: the grace starts anew", f.where("acme"), "acme.0@h1")
	f.wait(time.Second)
	f.is("written off: first the replacement", f.where("acme"), "acme.0@h1 acme.1@h2")
	f.says("acme", "acme.0 leaves h1: the host has been gone for more than 30s")
	f.ready()
	f.is("ready: then the old one goes", f.where("acme"), "acme.1@h2")
	for key := range f.keys {
		if strings.Contains(key, "/h1/") {
			t.Errorf("left on h1: %s", key)
		}
	}
}

func TestHostGoneAndNowhereToGo(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.settle()
	f.lose("h1")
	f.wait(time.Hour)
	f.is("kept for its return", f.where("acme"), "acme.0@h1")
	f.says("acme", "waiting")
	f.host(testHost("h1", ""))
	f.settle()
	f.is("back", f.where("acme"), "acme.0@h1")
	f.says("acme", "placed")
}

func TestAnewLeaderWaitsTheGraceItself(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.host(testHost("h2", ""))
	f.tenant("acme", "")
	f.settle()
	on := strings.Split(f.where("acme"), "@")[1]
	f.lose(on)
	f.now = f.now.Add(time.Hour)
	f.model = newSnapshot()
	f.relist()
	f.settle()
	f.wait(grace - time.Second)
	f.is("the new leader saw it gone just now", f.where("acme"), "acme.0@"+on)
	f.relist() // within one leadership the clock goes on
	f.wait(time.Second)
	if !strings.Contains(f.where("acme"), "acme.1@") {
		t.Error("a relist restarted the grace")
	}
}

func TestChangesInPlace(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "", "1GiB", 4))
	f.tenant("acme", "")
	f.settle()
	f.ready()
	f.wrote()
	f.tenant("acme", `"resources":{"memory":"1GiB"}`)
	f.settle()
	f.is("grown into all of the host", f.where("acme"), "acme.0@h1")
	f.is("its memory", f.placement("h1", "acme.0").Resources.Memory.String(), "1GiB")
	f.host(sized("h2", "", "4GiB", 4))
	f.tenant("acme", `"resources":{"memory":"2GiB"}`)
	f.settle()
	f.is("grown too big for it", f.where("acme"), "acme.0@h1 acme.1@h2")
	f.ready()
	f.is("and moved", f.where("acme"), "acme.1@h2")
	f.tenant("acme", `"resources":{"memory":"2GiB"},"replicas":{"min":2}`)
	f.settle()
	f.is("one more: the number is free again", f.where("acme"), "acme.0@h2 acme.1@h2")
	f.ready()
	f.tenant("acme", `"resources":{"memory":"2GiB"}`)
	f.settle()
	f.is("one less, and that is said first", f.where("acme"), "acme.0@h2 acme.1@h2")
	f.wait(leaveFor)
	f.is("one less", f.where("acme"), "acme.1@h2")
}

func TestLabelsMove(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", "a"))
	f.host(testHost("h2", "b"))
	f.tenant("acme", `"placement":{"labels":{"zone":"a"}}`)
	f.settle()
	f.ready()
	f.tenant("acme", `"placement":{"labels":{"zone":"b"}}`)
	f.settle()
	f.is("replaced first", f.where("acme"), "acme.0@h1 acme.1@h2")
	f.says("acme", "acme.0 leaves h1: the host has no zone=b")
	f.says("acme", "it replaces acme.0 on h1")
	f.ready()
	f.is("then removed", f.where("acme"), "acme.1@h2")
}

// running is a host whose engine has OCI runtimes.
func running(h cluster.Host, runtimes ...string) cluster.Host {
	h.Runtimes = runtimes
	return h
}

func TestRuntimesAreWhereTheEngineHasThem(t *testing.T) {
	f := newFixture(t)
	f.host(running(testHost("h1", ""), "runc"))
	f.tenant("acme", `"runtime":"kata"`)
	f.settle()
	f.says("acme", "waiting")
	f.says("acme", "no host has 128MiB, 0.5 cores and 64 pids free and the OCI runtime kata: h1 has the OCI runtimes runc")
	f.host(running(testHost("h2", ""), "kata", "runc"))
	f.settle()
	f.is("placed where it is", f.where("acme"), "acme.0@h2")
	f.is("which the agent is told", f.placement("h2", "acme.0").Runtime, "kata")
	f.ready()
	f.tenant("acme", `"runtime":"runc"`)
	f.settle()
	f.says("acme", "acme.0 leaves h2: its runtime is to be runc")
	f.is("while another one starts", fmt.Sprint(len(strings.Fields(f.where("acme")))), "2")
	f.is("it keeps its own", f.placement("h2", "acme.0").Runtime, "kata")
	f.ready()
	f.is("then it goes", fmt.Sprint(len(strings.Fields(f.where("acme")))), "1")
}

func TestForeignHands(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.settle()
	f.wrote()
	f.del(cluster.PlacementKey("h1", "acme.0"), cluster.TenantStatusKey("acme"))
	f.settle()
	f.is("a placement someone deleted comes back", f.where("acme"), "acme.0@h1")
	f.put(cluster.PlacementKey("h1", "acme.0"), `{"tenant":"globex"}`)
	f.settle()
	f.is("one that someone broke is mended", f.placement("h1", "acme.0").Tenant, "acme")
	f.put(cluster.PlacementKey("h1", "ghost.0"), cluster.Placement{Tenant: "ghost", Instance: "ghost.0"})
	f.put(cluster.UnitKey("h1", "bulkhead-ghost-0.service"), "x")
	f.settle()
	f.is("one without a tenant goes", f.where("ghost"), "")
	if _, ok := f.keys[cluster.UnitKey("h1", "bulkhead-ghost-0.service")]; ok {
		t.Error("a unit without a tenant stays")
	}
	f.put(cluster.UnitKey("h1", "something-else.service"), "x")
	f.put(cluster.PlacementsPrefix+"odd", "x")
	f.settle()
	if f.keys[cluster.UnitKey("h1", "something-else.service")] == "" {
		t.Error("what is not ours was removed")
	}
}

func TestBrake(t *testing.T) {
	setup := func(t *testing.T, n int) *fixture {
		f := newFixture(t)
		f.host(sized("h1", "", "8GiB", 64))
		for i := range n {
			f.tenant(fmt.Sprintf("t%d", i), "")
		}
		f.settle()
		return f
	}
	wipe := func(f *fixture, n int) {
		var keys []string
		for i := range n {
			keys = append(keys, cluster.TenantKey(fmt.Sprintf("t%d", i)))
		}
		f.del(keys...)
		f.settle()
	}
	placed := func(f *fixture) int {
		if h := f.model.hosts["h1"]; h != nil {
			return len(h.placed)
		}
		return 0
	}
	t.Run("three tenants may go at once", func(t *testing.T) {
		f := setup(t, 3)
		wipe(f, 3)
		f.is("left", fmt.Sprint(placed(f)), "0")
	})
	t.Run("half may go", func(t *testing.T) {
		f := setup(t, 6)
		wipe(f, 3)
		f.is("left", fmt.Sprint(placed(f)), "3")
	})
	t.Run("more than half are held, through a change of leader, and come back", func(t *testing.T) {
		f := setup(t, 6)
		wipe(f, 4)
		f.is("kept", fmt.Sprint(placed(f)), "6")
		f.says("t0", "held")
		if !strings.Contains(f.keys[cluster.BrakeKey], "4 of 6 tenants") {
			t.Errorf("brake says %s", f.keys[cluster.BrakeKey])
		}
		f.model = newSnapshot()
		f.relist()
		f.wait(24 * time.Hour)
		f.is("kept by the next leader", fmt.Sprint(placed(f)), "6")
		for i := range 4 {
			f.tenant(fmt.Sprintf("t%d", i), "")
		}
		f.settle()
		if f.keys[cluster.BrakeKey] != "" {
			t.Error("the brake still stands")
		}
		f.says("t0", "placed")
	})
	t.Run("deleting the brake's key confirms", func(t *testing.T) {
		f := setup(t, 6)
		wipe(f, 6)
		f.is("kept", fmt.Sprint(placed(f)), "6")
		f.del(cluster.BrakeKey)
		f.settle()
		f.is("left", fmt.Sprint(placed(f)), "0")
		f.tenant("t0", "")
		f.settle()
		f.is("who comes back is served", fmt.Sprint(placed(f)), "1")
	})
	t.Run("one by one within a minute counts too", func(t *testing.T) {
		f := setup(t, 6)
		for i := range 6 {
			f.del(cluster.TenantKey(fmt.Sprintf("t%d", i)))
			f.settle()
		}
		f.is("kept", fmt.Sprint(placed(f)), "3")
	})
	t.Run("one by one over hours does not", func(t *testing.T) {
		f := setup(t, 6)
		for i := range 6 {
			f.del(cluster.TenantKey(fmt.Sprintf("t%d", i)))
			f.settle()
			f.wait(time.Hour)
		}
		f.is("kept", fmt.Sprint(placed(f)), "0")
	})
	t.Run("removed together with the applied spec is meant", func(t *testing.T) {
		f := setup(t, 6)
		for i := range 6 {
			f.del(cluster.TenantKey(fmt.Sprintf("t%d", i)), cluster.AppliedKey(fmt.Sprintf("t%d", i)))
		}
		f.settle()
		f.is("kept", fmt.Sprint(placed(f)), "0")
	})
	t.Run("absent from a list after a restart counts like deleted", func(t *testing.T) {
		f := setup(t, 6)
		for i := range 6 {
			delete(f.keys, cluster.TenantKey(fmt.Sprintf("t%d", i)))
		}
		f.model = newSnapshot()
		f.relist()
		f.settle()
		f.is("kept", fmt.Sprint(placed(f)), "6")
	})
}
