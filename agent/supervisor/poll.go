package supervisor

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// poller watches listening sockets for their first connection.
type poller struct {
	epoll, wake int
	mu          sync.Mutex
	fire        map[int]func() // by descriptor
	done        chan struct{}
}

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot watch sockets: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("cannot watch sockets: %w", err)
	}
	p := &poller{epoll: epoll, wake: wake, fire: map[int]func(){}, done: make(chan struct{})}
	go p.run()
	return p, nil
}

// arm has fire called once when a connection waits on a socket.
func (p *poller) arm(fd int, fire func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	op := unix.EPOLL_CTL_ADD
	if _, known := p.fire[fd]; known {
		op = unix.EPOLL_CTL_MOD
	}
	if err := unix.EpollCtl(p.epoll, op, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("cannot watch a socket: %w", err)
	}
	p.fire[fd] = fire
	return nil
}

// forget stops watching a socket, before it is closed.
func (p *poller) forget(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.fire[fd]; known {
		delete(p.fire, fd)
		unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

func (p *poller) run() {
	defer close(p.done)
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == p.wake {
				return
			}
			p.mu.Lock()
			fire := p.fire[int(e.Fd)]
			p.mu.Unlock()
			if fire != nil {
				fire()
			}
		}
	}
}

func (p *poller) close() {
	unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-p.done
	unix.Close(p.wake)
	unix.Close(p.epoll)
}
