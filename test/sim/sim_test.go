package sim

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "the only seed to run")
	seedsFlag = flag.Uint64("sim.seeds", 6, "how many seeds to run")
	hoursFlag = flag.Float64("sim.hours", 2, "how long each world lasts, in hours")
	hostsFlag = flag.Int("sim.hosts", 12, "how many hosts each has")
	logFlag   = flag.String("sim.log", "", "file for everything that is said")
)

func TestSimulation(t *testing.T) {
	first, last := uint64(1), *seedsFlag
	if *seedFlag > 0 {
		first, last = *seedFlag, *seedFlag
	}
	var out io.Writer = io.Discard
	if *logFlag != "" {
		f, err := os.Create(*logFlag)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		out = f
	}
	log := slog.New(slog.NewTextHandler(out, nil))
	slog.SetDefault(log) // that of packages that have none of their own
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, log)
		})
	}
}

func simulate(t *testing.T, seed uint64, log *slog.Logger) {
	began := time.Now()
	s := size{hosts: *hostsFlag, tenants: 5 * *hostsFlag, schedulers: 3, last: time.Duration(*hoursFlag * float64(time.Hour))}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, s, log)
		w.live()
		w.end()
		lasted := time.Since(w.begun)
		w.close()
		if len(w.check.wrong) == 0 {
			t.Logf("%d hosts for %s: %d events, %d placements, %d cycles, %d rollouts, revision %d", s.hosts, lasted.Round(time.Second), len(w.story), w.check.moved, w.check.done, len(w.rollouts), w.store.Revision())
			return
		}
		for _, wrong := range w.check.wrong {
			t.Error(wrong)
		}
		for _, line := range w.story[max(0, len(w.story)-25):] {
			t.Log(line)
		}
		t.Logf("again: go test ./test/sim -sim.seed %d -sim.hours %g -sim.hosts %d -sim.log world.log", seed, *hoursFlag, *hostsFlag)
	})
	t.Logf("took %s", time.Since(began).Round(time.Millisecond))
}
