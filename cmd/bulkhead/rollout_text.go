package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
)

// text is a rollout for people, as of now.
func (r *rolloutView) text(w io.Writer) {
	fmt.Fprintf(w, "Rollout    %s: %s\n", r.ID, r.what())
	fmt.Fprintf(w, "Phase      %s\n", strings.TrimSpace(r.Status.Phase+" "+r.Status.Reason))
	fmt.Fprintf(w, "Hosts      %s %d of %d\n", bar(r.Done, len(r.Hosts)), r.Done, len(r.Hosts))
	if b := r.Status.Begun; !b.IsZero() {
		until := r.Status.Ended
		if until.IsZero() {
			until = time.Now()
		}
		fmt.Fprintf(w, "Begun      %s, %s\n", b.Local().Format(time.DateTime), lasting(until.Sub(b)))
	}
	if r.Failed != nil {
		fmt.Fprintf(w, "Failed     %s\n", r.Failed.text())
	}
	rows := [][]string{{"HOST", "STEP", "", "IN STEP", "IN ALL", "LEFT TO MOVE", "IN FLIGHT", "FAILED", "SAYS"}}
	for _, h := range r.Hosts {
		rows = append(rows, h.row(r.Rollout.Kind))
	}
	fmt.Fprintln(w)
	table(w, rows)
	for _, h := range r.Hosts {
		for _, line := range h.Waiting {
			fmt.Fprintf(w, "  %s: %s\n", h.Host, line)
		}
	}
}

func (h rolloutHost) row(kind cluster.RolloutKind) []string {
	step, in, all, left, flight, failed := h.State, "-", "-", "-", "-", "-"
	if h.Step != "" {
		step, in, left = string(h.Step), lasting(time.Since(h.Since)), fmt.Sprint(h.Left)
	}
	if h.Took > 0 {
		all = lasting(h.Took)
	}
	if h.Present {
		flight = fmt.Sprintf("%.3g", h.InFlight)
	} else {
		step += " (away)"
	}
	if h.Failed != nil {
		failed = fmt.Sprint(*h.Failed)
	}
	return []string{h.Host, step, h.bar(kind), in, all, left, flight, failed, dash(firstLine(h.Says))}
}

// bar shows how far a host is.
func (h rolloutHost) bar(kind cluster.RolloutKind) string {
	steps := []cluster.CycleStep{cluster.StepPatch, cluster.StepReturn, cluster.StepSteady, cluster.StepDone}
	if kind == cluster.RolloutOS {
		steps = append([]cluster.CycleStep{cluster.StepCordon, cluster.StepDrain, cluster.StepLeave}, steps...)
	}
	switch {
	case settled(h.State):
		return bar(1, 1)
	case h.Step == "":
		return bar(0, 1)
	}
	return bar(slices.Index(steps, h.Step)+1, len(steps))
}

// bar is a progress bar of ten characters.
func bar(done, of int) string {
	const width = 10
	n := width * min(max(done, 0), of) / max(of, 1)
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}

// lasting writes how long something takes as a clock shows it.
func lasting(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
