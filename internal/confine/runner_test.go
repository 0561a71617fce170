package confine

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// confinedEnv names the directory of a process that is to be confined to it.
const confinedEnv = "CONFINE_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(confinedEnv); dir != "" {
		json.NewEncoder(os.Stdout).Encode(confined(dir))
		return
	}
	os.Exit(m.Run())
}

// confined confines this process and tells how things go then; empty: well.
func confined(dir string) map[string]string {
	open, err := os.OpenFile(filepath.Join(dir, "open"), os.O_RDWR|os.O_CREATE, 0o600)
	ln, listenErr := net.Listen("unix", filepath.Join(dir, "socket"))
	if err = errors.Join(err, listenErr); err == nil {
		err = Runner(filepath.Join(dir, "functions"))
	}
	got := map[string]string{}
	say := func(what string, err error) {
		got[what] = ""
		if errno := unix.Errno(0); errors.As(err, &errno) {
			got[what] = unix.ErrnoName(errno)
		} else if err != nil {
			got[what] = err.Error()
		}
	}
	say("confine", err)
	_, err = os.ReadFile(filepath.Join(dir, "functions", "hello.json"))
	say("read a function", err)
	_, err = open.Write([]byte("thaw"))
	say("write to what is open", err)
	say("serve", serve(ln))
	say("work in threads", threads())
	_, err = os.ReadFile(filepath.Join(dir, "other"))
	say("read another file", err)
	say("write a file", os.WriteFile(filepath.Join(dir, "functions", "new"), nil, 0o600))
	_, err = net.Dial("tcp", "127.0.0.1:1")
	say("dial TCP", err)
	say("run a program", unix.Exec("/bin/true", []string{"true"}, nil))
	_, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	say("map code", err)
	say("signal another", unix.Kill(os.Getppid(), 0))
	_, err = unix.MemfdCreate("x", 0)
	say("make a file without a name", err)
	return got
}

// serve echoes on a socket, and is heard there.
func serve(ln net.Listener) error {
	go func() {
		if c, err := ln.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 5))
	return err
}

// threads has the runtime make some, which collect garbage meanwhile.
func threads() error {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			runtime.LockOSThread()
			for range 20 {
				_ = make([]byte, 1<<20)
			}
			runtime.GC()
		})
	}
	all.Wait()
	return nil
}

func TestConfinedRunnerDoesItsWorkAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "functions"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"functions/hello.json", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As runners are: with cgo, which the race detector needs, nothing can be
	// done to all threads.
	bin := filepath.Join(t.TempDir(), "confine.test")
	build := exec.Command("go", "test", "-c", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	cmd := exec.Command(bin)
	cmd.Env = append(os.Environ(), confinedEnv+"="+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for what, want := range map[string]string{
		"confine": "", "read a function": "", "write to what is open": "", "serve": "", "work in threads": "",
		"read another file": "EACCES", "write a file": "EACCES", "dial TCP": "EPERM", "run a program": "EPERM",
		"map code": "EPERM", "signal another": "EPERM", "make a file without a name": "EPERM",
	} {
		if says, ok := got[what]; !ok || says != want {
			t.Errorf("%s: %q, want %q", what, says, want)
		}
	}
}
