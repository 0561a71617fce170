package runner

import (
	"testing"
	"time"
)

func TestLoadIsTheAverageInFlight(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	l := load{since: at(0), at: at(0)}
	l.meter(0, at(500))  // a request comes
	l.meter(1, at(1000)) // a second one
	l.meter(2, at(1500)) // both are answered
	if got := l.take(0, at(2000)); got != 0.75 {
		t.Errorf("half a second of one and half of two in two seconds: got %v, want 0.75", got)
	}
	if got := l.take(3, at(4000)); got != 3 {
		t.Errorf("three all the time: got %v, want 3", got)
	}
	if got := l.take(0, at(4000)); got != 0 {
		t.Errorf("no time at all: got %v, want 0", got)
	}
}
