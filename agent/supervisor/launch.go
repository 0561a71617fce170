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
func (s *Supervisor) launch(spec serviceSpec, names []string, sockets []int, log string) (*process, error) {
	p, err := s.prepare(spec, names, sockets, log)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	return p, nil
}

func (s *Supervisor) prepare(spec serviceSpec, names []string, sockets []int, log string) (*process, error) {
	j := spec.Jail
	j.Listen, j.Cred = names, slices.Sorted(maps.Keys(spec.Credentials))
	var err error
	if j.UID, j.GID, err = s.users.of(spec); err != nil {
		return nil, err
	}
	files := &files{}
	defer files.close()
	out := files.add(os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600))
	for _, fd := range sockets {
		files.pass(dup(fd))
	}
	for _, name := range j.Cred {
		files.pass(credential(spec.Credentials[name]))
	}
	config := files.pipe(true)
	status := files.pipe(false)
	if files.err != nil {
		return nil, files.err
	}
	// The file that we were started from may be another version's by now.
	cmd := exec.Command("/proc/self/exe", jailArg, strconv.Itoa(firstFD+len(files.passed)-2), strconv.Itoa(firstFD+len(files.passed)-1))
	cmd.Dir, cmd.Env, cmd.ExtraFiles = "/", []string{"GOMAXPROCS=1"}, files.passed
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: j.Namespaces, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p, err := newProcess(cmd.Process.Pid, cmd)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, err
	}
	// Noted before it is told what to become: a supervisor killed in between
	// leaves a helper that ends, or a service that its successor knows of.
	err = s.store.note(spec.Name, note{Process: p})
	if err == nil {
		err = s.handOver(spec, j, p.PID, config, status, files.passed)
	}
	if err != nil {
		p.signal(unix.SIGKILL)
		<-p.exited
		p.release()
		s.store.unnote(spec.Name)
		return nil, err
	}
	return p, nil
}

// handOver puts the helper, which waits, into its cgroup, tells it what to
// become, and reads what went wrong, if anything did.
func (s *Supervisor) handOver(spec serviceSpec, j jailSpec, pid int, config, status *os.File, passed []*os.File) error {
	path := filepath.Join(slicePath(spec.Slice), spec.Name)
	if err := errors.Join(s.cgroups.set(path, spec.Limits), s.cgroups.enter(path, pid)); err != nil {
		s.sayOnce(spec.Name+" cgroup", "service runs without some of its limits", "unit", spec.Name, "error", err)
	}
	// The child has its ends; ours must go, or status would never end.
	for _, f := range passed {
		f.Close()
	}
	err := json.NewEncoder(config).Encode(j)
	config.Close()
	told, readErr := io.ReadAll(status)
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
