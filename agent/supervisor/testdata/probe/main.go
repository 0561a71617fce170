// Probe stands in for a runner in the supervisor's tests: it serves the
// sockets it was handed, and answers each connection with what it finds out
// about its own jail. A connection that sends "exit N" ends it with code N.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	fmt.Println("probe", os.Getpid())
	for fd := firstFD + 1; fd < firstFD+sockets(); fd++ {
		go listen(fd)
	}
	listen(firstFD)
}

const firstFD = 3

func sockets() int {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		panic(err)
	}
	return n
}

func listen(fd int) {
	f := os.NewFile(uintptr(fd), "socket")
	l, err := net.FileListener(f)
	if err != nil {
		panic(err)
	}
	defer runtime.KeepAlive(f) // closed, it could not be taken back
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go serve(c)
	}
}

func serve(c net.Conn) {
	defer c.Close()
	line, _ := bufio.NewReader(c).ReadString('\n')
	var code int
	if n, _ := fmt.Sscanf(line, "exit %d", &code); n == 1 {
		os.Exit(code)
	}
	json.NewEncoder(c).Encode(report())
}

func report() map[string]any {
	facts := map[string]any{
		"pid": os.Getpid(), "uid": os.Getuid(), "gid": os.Getgid(), "env": os.Environ(),
		"root": names("/"), "dev": names("/dev"), "proc": names("/proc"), "tmp": os.WriteFile("/tmp/x", nil, 0o600) == nil,
		"write root":      errno(os.WriteFile("/x", nil, 0o600)),
		"write functions": errno(os.WriteFile("/functions/x", nil, 0o600)),
	}
	if groups, err := os.Getgroups(); err == nil {
		facts["groups"] = len(groups)
	}
	cred := os.NewFile(uintptr(firstFD+sockets()), "credential")
	text := make([]byte, 1<<16)
	n, _ := cred.ReadAt(text, 0)
	facts["credential"] = string(text[:n])
	_, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	facts["socket inet"] = errno(err)
	_, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	facts["socket unix"] = errno(err)
	facts["unshare"] = errno(syscall.Unshare(syscall.CLONE_NEWUSER))
	facts["mount"] = errno(syscall.Mount("/", "/tmp", "", syscall.MS_BIND, ""))
	facts["ptrace"] = errno(syscall.PtraceAttach(1))
	_, err = syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE|syscall.PROT_EXEC, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	facts["mmap wx"] = errno(err)
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	facts["nofile"] = limit.Max
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "CapEff", "CapBnd", "CapPrm", "NoNewPrivs", "Seccomp", "Umask":
			facts[k] = strings.TrimSpace(v)
		}
	}
	return facts
}

func names(dir string) []string {
	var all []string
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		all = append(all, f.Name())
	}
	return all
}

func errno(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
