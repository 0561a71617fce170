package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

// fleet is n hosts, h0 on, with a tenant each on average per.
func fleet(t *testing.T, hosts, tenants int) *fixture {
	f := newFixture(t)
	for i := range hosts {
		f.host(sized(fmt.Sprintf("h%d", i), "", "64GiB", 640))
	}
	for i := range tenants {
		f.tenant(fmt.Sprintf("t%d", i), `"resources":{"pids":32}`)
	}
	f.settle()
	f.ready()
	return f
}

// on counts the placements on a host, as etcd has them.
func (f *fixture) on(host string) (n int) {
	for key := range f.keys {
		if strings.HasPrefix(key, cluster.HostPlacements(host)) {
			n++
		}
	}
	return n
}

func TestADeadHostsInstancesArePlacedAtOnce(t *testing.T) {
	f := fleet(t, 3, 60)
	lost, others := f.on("h0"), f.on("h1")+f.on("h2")
	f.lose("h0")
	f.now = f.now.Add(grace)
	f.model.tick(f.now, grace)
	for _, group := range f.model.plan(f.now, grace, atOnce) { // one pass
		f.apply(group...)
	}
	if got := f.on("h1") + f.on("h2"); lost < 10 || got != others+lost {
		t.Errorf("of %d instances lost, %d were placed in the first plan", lost, got-others)
	}
	f.settle()
	f.ready()
	f.is("left on the dead host", fmt.Sprint(f.on("h0")), "0")
}

func TestMostHostsVanish(t *testing.T) {
	vanish := func(t *testing.T) *fixture {
		f := fleet(t, 5, 20)
		for i := range 3 {
			f.lose(fmt.Sprintf("h%d", i))
		}
		f.settle()
		f.wrote()
		f.wait(time.Hour)
		f.none("three of five hosts are gone")
		if !strings.Contains(f.keys[cluster.HostBrakeKey], "3 of 5 hosts vanished at once") {
			t.Errorf("the brake says %q", f.keys[cluster.HostBrakeKey])
		}
		return f
	}
	t.Run("and come back", func(t *testing.T) {
		f := vanish(t)
		f.model = newSnapshot() // another leader keeps to it
		f.relist()
		f.wait(time.Hour)
		f.none("under another leader")
		f.host(sized("h0", "", "64GiB", 640))
		f.host(sized("h1", "", "64GiB", 640))
		f.settle()
		f.is("the brake", f.keys[cluster.HostBrakeKey], "")
		kept := f.on("h2")
		f.wait(grace - time.Second)
		f.ready()
		if f.on("h2") != kept || kept == 0 {
			t.Error("the last one is not given the time that the others took")
		}
		f.wait(grace)
		f.ready()
		f.is("left on the one that stays away", fmt.Sprint(f.on("h2")), "0")
		if f.on("h0") == 0 || f.on("h1") == 0 {
			t.Error("those that came back lost what they had")
		}
	})
	t.Run("and are said to be dead", func(t *testing.T) {
		f := vanish(t)
		f.del(cluster.HostBrakeKey)
		f.settle()
		f.ready()
		f.is("left on them", fmt.Sprint(f.on("h0")+f.on("h1")+f.on("h2")), "0")
		f.is("the brake", f.keys[cluster.HostBrakeKey], "")
	})
	t.Run("one of two may", func(t *testing.T) {
		f := fleet(t, 2, 10)
		f.lose("h0")
		f.wait(grace)
		f.ready()
		f.is("left on it", fmt.Sprint(f.on("h0")), "0")
	})
	t.Run("hosts without placements count", func(t *testing.T) {
		f := fleet(t, 5, 1)
		on := strings.Split(f.where("t0"), "@")[1]
		f.lose(on)
		for i := range 5 {
			if name := fmt.Sprintf("h%d", i); name != on && i < 4 {
				f.lose(name)
			}
		}
		f.wait(time.Hour)
		f.is("it stays", f.where("t0"), "t0.0@"+on)
	})
}

func TestLateReturn(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.settle()
	f.ready()
	f.host(testHost("h2", ""))
	f.lose("h1")
	f.wait(grace)
	f.is("replaced", f.where("acme"), "acme.0@h1 acme.1@h2")
	f.host(testHost("h1", ""))
	f.settle()
	f.is("back, and neither serves yet: either may win", f.where("acme"), "acme.0@h1 acme.1@h2")
	f.serve("h1", "acme.0")
	f.wait(leaveFor)
	f.is("the one that came back serves first", f.where("acme"), "acme.0@h1")

	f.lose("h1")
	f.wait(grace)
	f.host(testHost("h1", ""))
	f.settle()
	f.serve("h2", "acme.1")
	f.wait(leaveFor)
	f.is("the replacement serves first", f.where("acme"), "acme.1@h2")

	f.lose("h2")
	f.wait(grace)
	f.host(testHost("h2", ""))
	f.settle()
	f.wait(grace)
	f.is("neither ever serves: the one that was there stays", f.where("acme"), "acme.1@h2")
}

func TestFlapping(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.settle()
	flap := func(times int) {
		for range times {
			f.lose("h1")
			f.wait(5 * time.Second)
			f.host(testHost("h1", ""))
			f.wait(5 * time.Second)
		}
	}
	flap(2)
	f.is("twice is no pattern", f.keys[cluster.DistrustKey("h1")], "")
	f.wait(flapWindow)
	flap(3)
	f.is("it keeps what it has", f.where("acme"), "acme.0@h1")
	f.tenant("bob", "")
	f.settle()
	f.says("bob", "h1 is distrusted until 13:2")
	f.says("bob", "it was lost 3 times within 10m")
	f.model = newSnapshot() // another leader goes by the key
	f.relist()
	f.settle()
	f.is("bob under another leader", f.where("bob"), "")
	f.wait(distrustFirst)
	f.is("its time is over", f.where("bob")+f.keys[cluster.DistrustKey("h1")], "bob.0@h1")
	flap(3)
	f.tenant("carl", "")
	f.wait(2*distrustFirst - time.Minute)
	f.is("again: for longer", f.where("carl"), "")
	f.del(cluster.DistrustKey("h1"))
	f.settle()
	f.is("someone vouches for it", f.where("carl"), "carl.0@h1")
	for n, want := range map[int]time.Duration{1: distrustFirst, 2: 2 * distrustFirst, 3: 4 * distrustFirst, 40: distrustMost} {
		f.is(fmt.Sprintf("the distrust number %d lasts", n), distrustFor(n).String(), want.String())
	}
}
