package cell

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/cell/inspect"
	"bulkhead/cell/watch"
)

// state is where a Node process is in its life. It only moves down the list.
type state int

const (
	booting state = iota // started, not yet warm
	spare                // warm, without code
	loading              // has code and socket, does not yet serve
	serving
	leaving // takes no new requests
	dead
)

// process is one Node process. Its mutable fields belong to the Cell's lock.
type process struct {
	number  int
	pid     int
	ipc     *net.UnixConn
	started time.Time
	oomBase int64 // the container's OOM kills when it started

	state    state
	function string
	version  string
	socket   string // its file's name
	listener *net.UnixListener
	since    time.Time
	left     time.Time // when it began leaving
	goodbye  string    // why it said that it goes
	killedBy string
	limits   watch.Limits
	stat     *os.File // its main thread's CPU time (proc_pid_schedstat); nil: unknown
	sched    *os.File // whether that thread could run (proc_pid_stat); nil: unknown
	eye      string   // names what tells the request (docs/cell.md)
	heap     int      // MiB
	verdict  *Verdict // the last
	retired  bool     // told to stop after a verdict

	heapOOM   atomic.Bool
	mark      mark
	dying     atomic.Pointer[string] // whose turn it was when it said so
	steady    atomic.Pointer[string] // whose turn it was when the watchdog looked twice in a row; empty: nobody's
	place     atomic.Pointer[string] // and where in the code
	address   chan inspect.Address   // of its inspector, while somebody waits for it
	inspector inspect.Address        // the last; for whoever breaks in
	pongs     chan watch.Pong        // to the watchdog, the last one
	ready     chan struct{}          // closed when it is a spare
	loaded    chan message           // serving or failed
	pong      chan message           // the answer to the last ping without n
	question  question               // the watchdog's ping under way
	escapes   escapes
	done      atomic.Int64    // requests that have ended, as it said last
	gone      chan struct{}   // closed after its inquest
	output    *sync.WaitGroup // readers of its pipes
}

// command is how to start Node.
type command struct {
	node    string
	harness string
	heap    int // MiB, of the flags
	flags   []string
	env     []string
	user    uint32 // 0: the cell's own
}

// startProcess starts a Node process that becomes a spare. What it prints goes
// to print with its level; what it says on its channel to said; its end to
// ended, once, after everything else.
func startProcess(r *reaper, c command, n int, print func(*process, entry), said func(*process, message), ended func(*process, syscall.WaitStatus)) (*process, error) {
	p := &process{number: n, started: time.Now(), ready: make(chan struct{}), loaded: make(chan message, 1), pong: make(chan message, 1), gone: make(chan struct{}), output: new(sync.WaitGroup),
		address: make(chan inspect.Address, 1), pongs: make(chan watch.Pong, 1), heap: c.heap}
	files, own, err := plumbing()
	if err != nil {
		return nil, fmt.Errorf("cannot start a process: %w", err)
	}
	attr := &os.ProcAttr{Dir: "/", Env: c.env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	if c.user != 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: c.user, Gid: c.user}
	}
	argv := append(append([]string{c.node}, c.flags...), filepath.Join(c.harness, "main.js"))
	pid, status, err := r.start(c.node, argv, attr)
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		own.close()
		return nil, fmt.Errorf("cannot start %s: %w", c.node, err)
	}
	p.pid, p.ipc = pid, own.ipc
	p.stat, _ = os.Open(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, pid))
	p.sched, _ = os.Open(fmt.Sprintf("/proc/%d/task/%d/stat", pid, pid))
	// The kernel ends the code before the cell when memory runs out.
	os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("500"), 0)
	p.output.Go(func() { p.read(own.stdout, "info", print) })
	p.output.Go(func() { p.readErrors(own.stderr, print) })
	go p.listen(said)
	go p.bury(status, own, ended)
	return p, nil
}

// ends are the cell's ends of a process's pipes and channel.
type ends struct {
	stdout, stderr *os.File
	ipc            *net.UnixConn
}

func (e ends) close() {
	e.stdout.Close()
	e.stderr.Close()
	e.ipc.Close()
}

// plumbing makes stdin, stdout, stderr and the channel (as descriptor 3) for a
// process, and the cell's ends of them.
func plumbing() (files []*os.File, own ends, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, own, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, own, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return nil, own, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, own, err
	}
	ours := os.NewFile(uintptr(pair[0]), "channel")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, own, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "channel")
	return []*os.File{null, outW, errW, theirs}, ends{outR, errR, conn.(*net.UnixConn)}, nil
}

func (p *process) read(f *os.File, level string, print func(*process, entry)) {
	readLines(f, func(line []byte) { print(p, parseLine(line, level)) })
}

// readErrors reads stderr, on which Node speaks as well: of its inspector,
// which is the cell's affair alone, and of its last moments.
func (p *process) readErrors(f *os.File, print func(*process, entry)) {
	var words obituary
	readLines(f, func(line []byte) {
		if a, about := inspect.ParseLine(line); about {
			if a != (inspect.Address{}) {
				replace(p.address, a)
			}
			return
		}
		p.notice(words.read(line))
		print(p, parseLine(line, "error"))
	})
}

// replace puts v into a channel that keeps the last value.
func replace[T any](ch chan T, v T) {
	for {
		select {
		case ch <- v:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}

// bury waits for the end. Output that was printed before it is read first, but
// an orphan that holds the pipes open holds up nothing.
func (p *process) bury(status <-chan syscall.WaitStatus, own ends, ended func(*process, syscall.WaitStatus)) {
	s := <-status
	read := make(chan struct{})
	go func() { p.output.Wait(); close(read) }()
	select {
	case <-read:
	case <-time.After(200 * time.Millisecond):
	}
	own.close()
	<-read
	ended(p, s)
	p.stat.Close()
	p.sched.Close()
	p.mark.close()
	close(p.gone)
}

// tell sends a message to the harness.
func (p *process) tell(m any) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = p.ipc.Write(append(b, '\n'))
	return err
}

// give hands the process its listening socket together with m, as Node's own
// IPC would (NODE_HANDLE): the descriptor goes with the first bytes.
func (p *process) give(l *net.UnixListener, m any) error {
	inner, err := json.Marshal(m)
	if err != nil {
		return err
	}
	line := fmt.Appendf(nil, `{"cmd":"NODE_HANDLE","type":"net.Native","msg":%s}`+"\n", inner)
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	n, _, err := p.ipc.WriteMsgUnix(line, unix.UnixRights(int(f.Fd())), nil)
	if err == nil && n < len(line) {
		_, err = p.ipc.Write(line[n:])
	}
	return err
}
