package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/cluster"
)

func TestDrain(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", "a"))
	f.tenant("acme", `"replicas":{"min":2}`)
	f.settle()
	f.ready()
	f.host(testHost("h2", "a"))
	f.put(cluster.DrainKey("h1"), "new kernel")
	f.settle()
	f.is("replacements first", f.where("acme"), "acme.0@h1 acme.1@h1 acme.2@h2 acme.3@h2")
	f.says("acme", "acme.0 leaves h1: the host is drained: new kernel")
	f.serve("h2", "acme.2")
	leaving := 0
	for _, i := range []string{"acme.0", "acme.1"} {
		if f.route("h1", i).Leaving {
			leaving++
		}
	}
	f.is("one serves: one may leave, which its route says first", fmt.Sprint(leaving, " of ", f.where("acme")), "1 of acme.0@h1 acme.1@h1 acme.2@h2 acme.3@h2")
	f.wait(leaveFor)
	f.is("and goes", fmt.Sprint(f.on("h1")), "1")
	f.serve("h2", "acme.3")
	f.wait(leaveFor)
	f.is("then the other", f.where("acme"), "acme.2@h2 acme.3@h2")
	f.tenant("bob", "")
	f.settle()
	f.is("nothing new", f.where("bob"), "bob.0@h2")
	f.del(cluster.DrainKey("h1"))
	f.settle()
	f.is("nobody hurries back", f.where("acme"), "acme.2@h2 acme.3@h2")
}

func TestDrainWithoutRoom(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "a", "2GiB", 4))
	f.tenant("acme", `"resources":{"memory":"512MiB"},"placement":{"labels":{"zone":"a"}}`)
	f.settle()
	f.ready()
	f.put(cluster.DrainKey("h1"), "because")
	f.settle()
	f.says("acme", "waiting")
	f.says("acme", "acme.1 waits: there is nowhere to go, h1 is the only host present")
	f.host(sized("h2", "a", "300MiB", 4))
	f.host(sized("h3", "a", "8GiB", 4))
	f.put(cluster.CordonKey("h3"), "because")
	f.settle()
	f.says("acme", "no host has 512MiB, 0.5 cores and 64 pids free with zone=a: h1 is drained, h2 has 300MiB free, h3 is cordoned")
	f.is("it waits", f.where("acme"), "acme.0@h1")
	// What is new reaches it all the same, but for what there is no room for.
	f.tenant("acme", `"resources":{"memory":"4GiB"},"limits":{"rate":7}`)
	f.settle()
	if p := f.placement("h1", "acme.0"); p.Limits.Rate != 7 || p.Resources.Memory != 512*cluster.MiB {
		t.Errorf("its placement: %+v", p)
	}
	f.del(cluster.CordonKey("h3"))
	f.settle()
	f.ready()
	if !strings.HasSuffix(f.where("acme"), "@h3") {
		t.Errorf("it is at %s", f.where("acme"))
	}
}

func TestTwoGrowOnOneHost(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "", "1GiB", 4))
	f.tenant("acme", `"replicas":{"min":2},"resources":{"memory":"256MiB"}`)
	f.settle()
	f.ready()
	f.host(sized("h2", "", "1GiB", 4))
	// Each of them would fit beside the other as it was, but not both.
	f.tenant("acme", `"replicas":{"min":2},"resources":{"memory":"700MiB"}`)
	f.settle()
	f.invariants()
	f.is("one grows in place, the other is replaced first", f.where("acme"), "acme.0@h1 acme.1@h1 acme.2@h2")
	f.ready()
	f.is("then goes", f.where("acme"), "acme.0@h1 acme.2@h2")
	f.invariants()
}
