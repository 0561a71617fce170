package cell

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// reaper waits for every child there is. PID 1 inherits the container's
// orphans, so it can't leave waiting to whoever started a process: it waits
// for all, and tells the statuses of those that are watched.
type reaper struct {
	mu       sync.Mutex
	watched  map[int]chan syscall.WaitStatus
	children chan os.Signal
	stop     chan struct{}
	done     chan struct{}
}

func newReaper() *reaper {
	r := &reaper{
		watched:  map[int]chan syscall.WaitStatus{},
		children: make(chan os.Signal, 1),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	signal.Notify(r.children, syscall.SIGCHLD)
	go r.run()
	return r
}

// start runs a program and returns its pid and the channel that will get its
// status. The lock keeps its end from being seen before its start.
func (r *reaper) start(path string, argv []string, attr *os.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := os.StartProcess(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	status := make(chan syscall.WaitStatus, 1)
	pid := p.Pid
	r.watched[pid] = status
	return pid, status, p.Release()
}

// kill sends a signal to a watched process, and to nobody after its end.
func (r *reaper) kill(pid int, sig syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched[pid] != nil {
		syscall.Kill(pid, sig)
	}
}

func (r *reaper) run() {
	defer close(r.done)
	for {
		select {
		case <-r.children:
			r.reap()
		case <-r.stop:
			signal.Stop(r.children)
			return
		}
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if ch := r.watched[pid]; ch != nil {
			delete(r.watched, pid)
			ch <- status
		}
	}
}

// close stops reaping and waits until it has stopped.
func (r *reaper) close() {
	close(r.stop)
	<-r.done
}
