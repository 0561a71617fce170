package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// launch starts a service in its jail with these sockets, and returns once it
// has been executed. What it prints goes to log.
func (s *Supervisor) launch(spec serviceSpec, sockets handed, log string) (*process, error) {
	p, err := s.tryLaunch(spec, sockets, log)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	return p, nil
}

func (s *Supervisor) tryLaunch(spec serviceSpec, sockets handed, log string) (*process, error) {
	var err error
	spec.Jail.Listen, spec.Jail.Cred = sockets.names, slices.Sorted(maps.Keys(spec.Credentials))
	if spec.Jail.UID, spec.Jail.GID, err = s.users.of(spec); err != nil {
		return nil, err
	}
	h, err := s.startJailer(spec, sockets.fds, log)
	if err != nil {
		return nil, err
	}
	defer h.files.close()
	// Noted before it is told what to become: a supervisor killed in between
	// leaves a jailer that ends, or a service that its successor knows of.
	h.process.Sockets = sockets.units
	err = s.store.note(spec.Name, note{Process: h.process})
	if err == nil {
		s.confine(spec, h.process.PID)
		err = h.become(spec.Jail)
	}
	if err != nil {
		h.process.signal(unix.SIGKILL)
		<-h.process.exited
		h.process.release()
		s.store.unnote(spec.Name)
		return nil, err
	}
	return h.process, nil
}

// confine puts a process into its service's cgroup.
func (s *Supervisor) confine(spec serviceSpec, pid int) {
	path := filepath.Join(slicePath(spec.Slice), spec.Name)
	if err := errors.Join(s.cgroups.set(path, spec.Limits), s.cgroups.enter(path, pid)); err != nil {
		s.sayOnce(spec.Name+" cgroup", "service runs without some of its limits", "unit", spec.Name, "error", err)
	}
}

// jailer is a jailerBinary started, waiting to be told what to become.
type jailer struct {
	process        *process
	files          *files
	config, status *os.File
}

// startJailer starts a jailer with all the descriptors that the service will
// have: its sockets, then its credentials.
func (s *Supervisor) startJailer(spec serviceSpec, sockets []int, log string) (*jailer, error) {
	fs := &files{}
	out := fs.add(os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600))
	for _, fd := range sockets {
		fs.pass(dup(fd))
	}
	for _, name := range spec.Jail.Cred {
		fs.pass(credential(spec.Credentials[name]))
	}
	h := &jailer{files: fs, config: fs.pipe(true), status: fs.pipe(false)}
	err := fs.err
	if err == nil {
		cmd := exec.Command(s.jailer.path(), jailArg, strconv.Itoa(firstFD+len(fs.passed)-2), strconv.Itoa(firstFD+len(fs.passed)-1))
		cmd.Dir, cmd.Env, cmd.ExtraFiles = "/", []string{"GOMAXPROCS=1"}, fs.passed
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spec.Jail.Namespaces, Setsid: true}
		h.process, err = startProcess(cmd)
	}
	if err != nil {
		fs.close()
		return nil, err
	}
	return h, nil
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p, err := newProcess(cmd.Process.Pid, cmd)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return p, err
}

// become tells the jailer what to become, and returns when it has, or why it
// could not.
func (h *jailer) become(j jailSpec) error {
	// The child has its ends; ours must go, or status would never end.
	for _, f := range h.files.passed {
		f.Close()
	}
	err := json.NewEncoder(h.config).Encode(j)
	h.config.Close()
	told, readErr := io.ReadAll(h.status)
	if len(told) > 0 {
		return errors.New(string(told))
	}
	return errors.Join(err, readErr)
}

// files are descriptors on their way to a child, closed together.
type files struct {
	all    []*os.File
	passed []*os.File // in order from firstFD on
	err    error
}

func (f *files) add(file *os.File, err error) *os.File {
	if err != nil {
		f.err = errors.Join(f.err, err)
		return nil
	}
	f.all = append(f.all, file)
	return file
}

func (f *files) pass(file *os.File, err error) {
	if file = f.add(file, err); file != nil {
		f.passed = append(f.passed, file)
	}
}

// pipe passes one end and returns the other: for writing, or for reading.
func (f *files) pipe(write bool) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		f.err = errors.Join(f.err, err)
		return nil
	}
	if write {
		f.pass(r, nil)
		return f.add(w, nil)
	}
	f.pass(w, nil)
	return f.add(r, nil)
}

func (f *files) close() {
	for _, file := range f.all {
		file.Close()
	}
}

func dup(fd int) (*os.File, error) {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(d), "socket"), nil
}

// credential copies a secret into memory that can't be changed any more, for
// a descriptor to carry: in no environment, no argument, no file that the
// jail could see.
func credential(path string) (*os.File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	fd, err := unix.MemfdCreate("credential", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	f := os.NewFile(uintptr(fd), "credential")
	_, err = f.Write(data)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("credential: %w", err)
	}
	return f, nil
}
