package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running service: our own child, or adopted from the
// supervisor before us.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot: tells a pid's owners apart
	// Sockets are the units of the sockets that it was started with, in the
	// order of their descriptors.
	Sockets []string `json:"sockets"`

	pidfd   int
	cmd     *exec.Cmd // nil when adopted
	exited  chan struct{}
	status  exit          // once exited is closed
	handled chan struct{} // closed when the supervisor has drawn its conclusions
}

// exit is how a process ended.
type exit struct {
	known  bool // an adopted process's status is its new parent's to know
	clean  bool // code 0, or a signal that asks for an end
	reason string
}

// newProcess watches a process until it ends.
func newProcess(pid int, cmd *exec.Cmd) (*process, error) {
	start, err := startTime(pid)
	if err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	unix.CloseOnExec(fd)
	p := &process{PID: pid, Start: start, pidfd: fd, cmd: cmd, exited: make(chan struct{}), handled: make(chan struct{})}
	go p.await()
	return p, nil
}

// adopt watches a process noted earlier, if it is still that one.
func (p *process) adopt() (*process, error) {
	a, err := newProcess(p.PID, nil)
	if err != nil {
		return nil, err
	}
	if a.Start != p.Start {
		return nil, fmt.Errorf("process %d is another one now", p.PID)
	}
	a.Sockets = p.Sockets
	return a, nil
}

func (p *process) await() {
	defer close(p.exited)
	if p.cmd != nil {
		p.status = exitOf(p.cmd.Wait())
		return
	}
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			break
		}
	}
	p.status = exit{reason: "ended"}
}

func exitOf(err error) exit {
	var failed *exec.ExitError
	if err == nil {
		return exit{known: true, clean: true, reason: "exited"}
	}
	if !errors.As(err, &failed) {
		return exit{known: true, reason: err.Error()}
	}
	e := exit{known: true, reason: failed.Error()}
	if ws, ok := failed.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		switch ws.Signal() {
		case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE:
			e.clean = true
		}
	}
	return e
}

// signal reaches this process and no later one of the same pid.
func (p *process) signal(s unix.Signal) { unix.PidfdSendSignal(p.pidfd, s, nil, 0) }

// terminate asks it to end. The first process of a jail with processes of its
// own gets no signal that it does not handle (pid_namespaces(7)), so one that
// has just been executed is asked again until it listens.
func (p *process) terminate(ctx context.Context) {
	for ctx.Err() == nil {
		listens := p.catches(unix.SIGTERM)
		p.signal(unix.SIGTERM)
		if listens {
			return
		}
		select {
		case <-p.exited:
			return
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// catches reports whether it handles a signal: a bit of SigCgt in
// /proc/<pid>/status (proc(5)). What can't be read it says yes to.
func (p *process) catches(s unix.Signal) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/status")
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(text), "SigCgt:")
	line, _, _ := strings.Cut(after, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return err != nil || set&(1<<(uint(s)-1)) != 0
}

// takeSockets duplicates its first n descriptors from firstFD on: the sockets
// that it was started with.
func (p *process) takeSockets(n int) (fds []int, err error) {
	for i := range n {
		fd, err := unix.PidfdGetfd(p.pidfd, firstFD+i, 0)
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("cannot take socket %d back from process %d: %w", i, p.PID, err)
		}
		unix.CloseOnExec(fd)
		if accepts, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || accepts == 0 {
			closeAll(append(fds, fd))
			return nil, fmt.Errorf("descriptor %d of process %d is no listening socket any more", firstFD+i, p.PID)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// release closes what watching took; the process may go on.
func (p *process) release() { unix.Close(p.pidfd) }

// startTime reads when a process started: field 22 of /proc/<pid>/stat
// (proc(5)), counted after the name, which may hold anything.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("cannot read start time of process %d", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
