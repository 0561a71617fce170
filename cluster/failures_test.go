package cluster

import "testing"

func TestFailuresFollowAHostsCount(t *testing.T) {
	f := Failures{Count: 17}
	for _, step := range []struct {
		sentence string
		count    int64
		want     Failures
	}{
		{"nothing new", 17, Failures{0, 17}},
		{"three more", 20, Failures{3, 20}},
		{"it has begun anew, and two since", 2, Failures{5, 2}},
		{"no count", -1, Failures{5, 0}},
		{"more than is believed", maxFailures + 1, Failures{maxFailures, maxFailures}},
		{"and anew", 7, Failures{maxFailures, 7}},
	} {
		if f = f.Follow(step.count); f != step.want {
			t.Errorf("%s: %+v, want %+v", step.sentence, f, step.want)
		}
	}
	if got, want := (Failures{3, 17}).From(90), (Failures{3, 90}); got != want {
		t.Errorf("from 90 on: %+v, want %+v", got, want)
	}
}
