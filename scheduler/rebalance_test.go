package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

// evenOut lets time pass until nothing has moved for a while; it returns the
// moves there were, and checks that nobody ever has less than he wants.
func (f *fixture) evenOut() (moves int) {
	f.t.Helper()
	before := map[string]bool{}
	for key := range f.keys {
		before[key] = strings.HasPrefix(key, cluster.PlacementsPrefix)
	}
	for quiet := 0; quiet < 20; quiet++ {
		ready := f.readyOnes()
		f.wait(evenEvery / 2)
		f.keptReady(ready, "")
		f.allServe()
		f.invariants()
		for key := range f.keys {
			if strings.HasPrefix(key, cluster.PlacementsPrefix) && !before[key] {
				before[key], quiet = true, 0
				moves++
			}
		}
		if n := len(f.model.moves); n > movesLeast {
			f.t.Fatalf("%d moves at a time", n)
		}
	}
	return moves
}

// shares is how much of the fullest and the emptiest host is used.
func (f *fixture) shares() (low, high, mean float64) {
	low = 1
	for _, h := range f.model.hosts {
		low, high, mean = min(low, h.share()), max(high, h.share()), mean+h.share()/float64(len(f.model.hosts))
	}
	return low, high, mean
}

// full is three hosts of 8 GiB that are nearly full of instances of sizes.
func full(t *testing.T) *fixture {
	f := newFixture(t)
	for i := range 3 {
		f.host(sized(fmt.Sprintf("h%d", i), string("ab"[i%2]), "8GiB", 1000))
	}
	for i := range 75 {
		memory := []int{128, 256, 512}[i%3]
		f.tenant(fmt.Sprintf("t%d", i), fmt.Sprintf(`"resources":{"memory":"%dMiB","pids":32}`, memory))
	}
	f.settle()
	f.allServe()
	return f
}

func TestANewHostRelievesFullOnes(t *testing.T) {
	f := full(t)
	if moves := f.evenOut(); moves > 0 {
		t.Fatalf("%d moves between hosts that are used alike", moves)
	}
	f.host(sized("h3", "a", "8GiB", 1000))
	f.settle()
	_, high, mean := f.shares()
	moves := f.evenOut()
	low, now, _ := f.shares()
	t.Logf("%d of 75 instances moved; the fullest was at %.2f and is at %.2f, the emptiest at %.2f, the mean is %.2f", moves, high, now, low, mean)
	if now > mean+evenUntil || high < mean+evenFrom {
		t.Errorf("the fullest was used to %.2f and is used to %.2f, on average %.2f", high, now, mean)
	}
	// What is above the line is (high-mean-evenUntil) of three hosts, and the
	// largest go first.
	if excess := 3 * (high - mean - evenUntil) * 8 * 1024 / 512; float64(moves) > excess+3 {
		t.Errorf("%d moves, though %.0f of the largest are above the line", moves, excess)
	}
	again := f.evenOut()
	f.is("moves after that", fmt.Sprint(again), "0")
	why := ""
	for _, p := range f.model.hosts["h3"].placed {
		why = p.Reason
	}
	if !strings.Contains(why, "is used to") || !strings.Contains(why, "hosts on average to") {
		t.Errorf("the reason is %q", why)
	}
}

func TestNothingMovesToHostsOutOfService(t *testing.T) {
	for what, key := range map[string]string{"cordoned": cluster.CordonKey("h3"), "drained": cluster.DrainKey("h3"), "distrusted": cluster.DistrustKey("h3")} {
		f := full(t)
		value := "because"
		if what == "distrusted" {
			value = marshal(cluster.Distrust{Until: f.now.Add(time.Hour)})
		}
		f.put(key, value)
		f.host(sized("h3", "a", "8GiB", 1000))
		f.settle()
		if moves := f.evenOut(); moves > 0 {
			t.Errorf("%d moves to a host that is %s", moves, what)
		}
	}
}

func TestAMoveThatLeadsNowhereIsGivenUp(t *testing.T) {
	f := full(t)
	f.host(sized("h3", "a", "8GiB", 1000))
	f.wait(evenEvery)
	if n := len(f.model.moves); n != movesLeast || f.on("h3") != n {
		t.Fatalf("%d moves have begun, %d instances are on h3", n, f.on("h3"))
	}
	old := f.model.moves
	f.lose("h3")
	f.settle()
	for range int(moveGives/evenEvery) + 2 { // it never serves there
		f.wait(evenEvery)
	}
	for key := range old {
		if n := strings.Split(key, "/"); f.keys[cluster.PlacementKey(n[0], n[1])] == "" {
			t.Errorf("%s is gone", key)
		}
	}
	f.is("left on h3", fmt.Sprint(f.on("h3")), "0")
}

func TestWhatMostHaveIsPreferred(t *testing.T) {
	f := newFixture(t)
	for i := range 3 {
		f.host(sized(fmt.Sprintf("h%d", i), "", "2GiB", 100))
	}
	h := sized("h9", "", "8GiB", 100)
	h.Image = "sha256:two"
	f.host(h)
	for i := range 6 {
		f.tenant(fmt.Sprintf("t%d", i), "")
	}
	f.settle()
	f.is("on the one host that differs, though it has more room", fmt.Sprint(f.on("h9")), "0")
	f.tenant("large", `"resources":{"memory":"4GiB"}`)
	f.settle()
	f.is("unless only it has room", f.where("large"), "large.0@h9")
}
