package proxy

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestCircuitOpensRestsAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c circuit
		for range softLimit - 1 {
			if rest, opened := c.failed(time.Now(), false); rest != 0 || opened {
				t.Fatal("a refusal opened it")
			}
		}
		c.succeeded()
		for i := range softLimit {
			if _, opened := c.failed(time.Now(), false); opened != (i == softLimit-1) {
				t.Fatalf("refusal %d in a row: opened is %v", i+1, opened)
			}
		}
		rest := c.wait(time.Now)
		if rest < restMin/2 || rest > restMin*3/2 {
			t.Fatalf("it rests for %v first", rest)
		}
		if _, opened := c.failed(time.Now(), true); opened || c.wait(time.Now) != rest {
			t.Error("the failure of a request that was under way changed something")
		}
		time.Sleep(rest)
		if c.wait(time.Now) != 0 {
			t.Fatal("after its rest it lets nobody through")
		}
		c.enter(time.Now)
		if c.wait(time.Now) != probeTime {
			t.Error("it lets a second one through while the first shows how it is")
		}
		for range 20 {
			c.failed(time.Now(), true)
			if rest = c.wait(time.Now); rest > restMax*3/2 {
				t.Fatalf("it rests for %v", rest)
			}
			time.Sleep(rest)
			c.enter(time.Now)
		}
		if rest < restMax/2 {
			t.Errorf("after many failures it rests for %v", rest)
		}
		if !c.succeeded() || c.wait(time.Now) != 0 || c.succeeded() {
			t.Error("a success does not close it, once")
		}
	})
}

func TestCircuitOpensAtOnceWhenNothingAnswers(t *testing.T) {
	var c circuit
	if rest, opened := c.failed(time.Now(), true); !opened || rest == 0 || c.wait(time.Now) == 0 {
		t.Errorf("opened %v, resting %v", opened, rest)
	}
}

func TestOfTwoTheLessBusyIsChosen(t *testing.T) {
	targets := make([]*target, 3)
	for i := range targets {
		targets[i] = &target{peer: &peer{}, weight: 1}
	}
	targets[0].busy.Store(10)
	targets[1].busy.Store(10)
	targets[1].weight = 20 // so each of these has less to do
	taken := map[*target]int{}
	for range 3000 {
		tg, _ := choose(targets, func(*target) bool { return true })
		taken[tg]++
	}
	if taken[targets[0]] != 0 {
		t.Errorf("the busiest was chosen %d times of 3000", taken[targets[0]])
	}
	if n := taken[targets[1]]; n < 700 || n > 1300 {
		t.Errorf("the second was chosen %d times of 3000, want some 1000: when it is drawn with the busiest", n)
	}
}
