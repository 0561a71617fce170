package cell

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// evidence is what is known about a process when it has ended.
type evidence struct {
	status   syscall.WaitStatus
	leaving  string // why it said that it was going; empty: it didn't
	heapOOM  bool   // V8 said that its heap is full
	oomKill  bool   // the kernel has killed in this container since it started
	killedBy string // why the cell killed it; empty: it didn't
	verdict  *Verdict
}

// inquest says why a process ended.
func inquest(e evidence) Exit {
	x := byCode(e)
	if e.status.Signaled() {
		x = bySignal(e)
	}
	if x.Verdict = e.verdict; x.Verdict != nil && x.Reason == "stopped" {
		x.Reason = "it was replaced: " + explain(*e.verdict)
	}
	return x
}

func byCode(e evidence) Exit {
	x := Exit{Code: e.status.ExitStatus()}
	switch {
	case e.heapOOM:
		x.OOM, x.Reason = true, "the heap is full: JavaScript ran out of memory"
	case e.leaving != "":
		x.Reason = e.leaving
	default:
		x.Reason = fmt.Sprintf("the process exited with code %d", x.Code)
	}
	return x
}

func bySignal(e evidence) Exit {
	sig := e.status.Signal()
	x := Exit{Signal: unix.SignalName(sig)}
	switch {
	case e.killedBy != "":
		x.Reason = e.killedBy
	case e.heapOOM:
		x.OOM, x.Reason = true, "the heap is full: JavaScript ran out of memory"
	case sig == syscall.SIGKILL && e.oomKill:
		x.OOM, x.Reason = true, "the container ran out of memory"
	case sig == syscall.SIGABRT:
		x.Reason = "the process aborted"
	default:
		x.Reason = fmt.Sprintf("the process was ended by %s", x.Signal)
	}
	return x
}
