// Package e2e does what a user does, with the built binaries, on a machine
// without systemd (this one) and on a host with systemd as PID 1 (test/host):
// register with etcdctl, deploy, invoke, be refused, kill things, take it down.
//
// The tests need root, Docker, etcdctl and curl, and the binaries in bin/ and
// the image that scripts/test builds first.
package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/test/host"
)

// machine is where a cluster of one runs.
type machine struct {
	t     *testing.T
	name  string // the host's, in the cluster
	try   func(command ...string) (string, error)
	begin func() // starts "bulkhead up" in the background
	pidOf func(service string) string
	bin   string
	state string
	runs  string // the directory that is lost at reboot
	etcd  string
	proxy string
	// dormant is after what idle time an instance sleeps: longer than a command
	// takes on this machine.
	dormant string
	// links are the network interfaces that code sees, as JSON.
	links string
}

// run runs a command on the machine and fails the test when it fails.
func (m *machine) run(command ...string) string {
	m.t.Helper()
	out, err := m.try(command...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return out
}

// bulkhead runs one of its commands.
func (m *machine) bulkhead(args ...string) string {
	m.t.Helper()
	return m.run(m.command(args...)...)
}

func (m *machine) command(args ...string) []string {
	return append([]string{m.bin + "/bulkhead", "--endpoints", m.etcd, "--proxy", m.proxy}, args...)
}

// up starts the cluster and waits until it says that it is up.
func (m *machine) up() {
	m.t.Helper()
	m.run("sh", "-c", fmt.Sprintf("mkdir -p %[1]s && : > %[1]s/up.pid", m.state))
	m.begin()
	m.await("the cluster is up", func() bool { return m.pid() != 0 })
	m.await("the host is well, its blank cells booted", func() bool { return strings.Contains(m.bulkhead("host", "list"), " ready ") })
}

// pid is the process of a "bulkhead up" that is ready; 0: none.
func (m *machine) pid() int {
	out, _ := m.try("cat", m.state+"/up.pid")
	lines := strings.Fields(out)
	if len(lines) < 2 || lines[1] != "ready" {
		return 0
	}
	pid, _ := strconv.Atoi(lines[0])
	return pid
}

// await looks again until it is so. What is waited for happens in processes
// of their own, which tell nobody; a look costs a command.
func (m *machine) await(what string, so func() bool) {
	m.t.Helper()
	patience := 90 * time.Second
	if onVM() {
		patience = 10 * time.Minute
	}
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			status, _ := m.try(m.command("status")...)
			log, _ := m.try("tail", "-n", "30", m.state+"/up.log")
			m.t.Fatalf("not within %s: %s\n%s\n%s", patience, what, status, log)
		}
	}
}

// call is what curl gets from the proxy.
func (m *machine) call(path, token string, curl ...string) (status int, body string) {
	m.t.Helper()
	args := []string{"curl", "-sS", "-o", "-", "-w", `\n%{http_code}`}
	if token != "" {
		args = append(args, "-H", "Authorization: Bearer "+token)
	}
	out := m.run(append(append(args, curl...), m.proxy+path)...)
	i := strings.LastIndexByte(out, '\n')
	status, err := strconv.Atoi(out[i+1:])
	if err != nil {
		m.t.Fatalf("curl printed %q", out)
	}
	return status, out[:i]
}

// want calls and compares.
func (m *machine) want(path, token string, status int, body string, curl ...string) {
	m.t.Helper()
	gotStatus, got := m.call(path, token, curl...)
	if gotStatus != status || !strings.Contains(got, body) {
		m.t.Fatalf("%s: got %d %s, want %d with %q", path, gotStatus, got, status, body)
	}
}

// put registers a tenant as an operator does.
func (m *machine) put(tenant, spec string) {
	m.t.Helper()
	m.run("env", "ETCDCTL_API=3", "etcdctl", "--endpoints", m.etcd, "put", "/bulkhead/tenants/"+tenant, spec)
}

// deploy writes a function's source to a file and deploys it.
func (m *machine) deploy(tenant, name, file, source string) {
	m.t.Helper()
	path := m.state + "/" + file
	m.run("sh", "-c", "cat >"+path+" <<'SOURCE'\n"+source+"\nSOURCE")
	m.bulkhead("function", "deploy", tenant, name, path)
}

func (m *machine) token(args ...string) string {
	m.t.Helper()
	return strings.TrimSpace(m.bulkhead(append([]string{"token"}, args...)...))
}

// status is what "bulkhead tenant show" says.
func (m *machine) show(tenant string) map[string]any {
	m.t.Helper()
	var v map[string]any
	out := m.bulkhead("tenant", "show", tenant, "-o", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		m.t.Fatalf("tenant show printed %s: %v", out, err)
	}
	return v
}

// container is the ID of the container that a tenant's first instance has.
func (m *machine) container(tenant string) (id string) {
	m.t.Helper()
	m.await(tenant+" has a container", func() bool {
		instance := m.show(tenant)["instances"].([]any)[0].(map[string]any)
		id, _ = instance["container"].(string)
		return id != ""
	})
	return id
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// needs fails early, and says what builds what is missing.
func needs(t *testing.T) (bin, image string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	bin = filepath.Join(root(t), "bin")
	out, err := exec.Command(filepath.Join(bin, "bulkhead"), "image", "build", "--state", t.TempDir()).Output()
	if err != nil {
		t.Fatalf("cannot build the image; scripts/build builds the binaries: %v", err)
	}
	return bin, strings.TrimSpace(string(out))
}

// thisMachine is a cluster beside any other on this machine: with directories,
// ports and a host name of its own.
func thisMachine(t *testing.T) *machine {
	return machineIn(t, nil, "--egress=false") // no test's packet leaves this machine
}

// machineIn is the same, where every command runs behind enter, with more flags
// for "bulkhead up".
func machineIn(t *testing.T, enter []string, flags ...string) *machine {
	bin, image := needs(t)
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd is PID 1 here: the test on a test host covers that")
	}
	// Not below /tmp: jails have a /tmp of their own over it.
	dir, err := os.MkdirTemp("/run", "bulkhead-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // as /run and /var/lib let everybody pass
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	m := &machine{
		dormant: "6s", links: `["lo"]`, // see --egress
		t: t, name: fmt.Sprintf("e2e-%d", os.Getpid()), bin: bin, state: dir + "/state", runs: dir + "/run",
		etcd: "http://127.0.0.1:" + ports[0], proxy: "http://127.0.0.1:" + ports[2],
	}
	m.try = func(command ...string) (string, error) {
		command = append(slices.Clone(enter), command...)
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	place := []string{"--host", m.name, "--state", m.state, "--run", m.runs}
	m.begin = func() {
		log, err := os.OpenFile(m.state+"/up.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		up := slices.Concat(enter, []string{bin + "/bulkhead", "up", "--image", image, "--etcd", m.etcd,
			"--etcd-peer", "http://127.0.0.1:" + ports[1], "--listen", "127.0.0.1:" + ports[2]}, place, flags)
		cmd := exec.Command(up[0], up[1:]...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go cmd.Wait()
	}
	m.pidOf = func(service string) string {
		// The supervisor's own notes, by which it finds what it started.
		return m.run("grep", "-o", `"pid": *[0-9]*`, m.runs+"/supervisor/started/"+service)
	}
	t.Cleanup(func() {
		down := slices.Concat(enter, []string{bin + "/bulkhead", "down", "--purge"}, place)
		out, err := exec.Command(down[0], down[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return m
}

// hostWithSystemd is a cluster on a test host, where everything is where it is
// by default.
func hostWithSystemd(t *testing.T) *machine {
	bin, image := needs(t)
	h := testHost(t)
	for _, b := range []string{"bulkhead", "bulkhead-runner"} {
		h.CopyIn(filepath.Join(bin, b), "/opt/bulkhead/"+b)
	}
	etcdctl, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Fatal("etcdctl is missing: apt-get install etcd-client")
	}
	h.CopyIn(etcdctl, "/usr/local/bin/etcdctl")
	h.LoadImage(image)
	m := &machine{
		t: t, name: h.Name, bin: "/opt/bulkhead", state: "/var/lib/bulkhead", runs: "/run/bulkhead",
		etcd: "http://127.0.0.1:2379", proxy: "http://127.0.0.1:8080", try: h.Try, dormant: "6s", links: `["lo","eth0"]`,
	}
	if onVM() {
		m.dormant = "45s"
	}
	m.pidOf = func(service string) string {
		return m.run("systemctl", "show", "--property=MainPID", service)
	}
	m.begin = func() {
		h.Try("systemctl", "reset-failed", "bulkhead-up.service")
		h.Exec("systemd-run", "--quiet", "--unit=bulkhead-up", "--collect",
			"-p", "StandardError=append:/var/lib/bulkhead/up.log", "/opt/bulkhead/bulkhead", "up", "--image", image)
	}
	return m
}

// sshEnv is how to get into the machine that scripts/vm has made: slower than
// any other, and with a clock of its own.
const sshEnv = "BULKHEAD_E2E_SSH"

func onVM() bool { return os.Getenv(sshEnv) != "" }

// testHost is a container, or the machine that scripts/vm has made.
func testHost(t *testing.T) *host.Host {
	if !onVM() {
		return host.Start(t, "e2e")
	}
	h := host.Over(t, "vm", strings.Fields(os.Getenv(sshEnv))...)
	h.Exec("rm", "-rf", "/var/lib/bulkhead")
	return h
}

func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports = append(ports, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

// awaitGone returns once a process of the machine has ended.
func (m *machine) awaitGone(pid int) {
	m.t.Helper()
	m.await(fmt.Sprintf("process %d has ended", pid), func() bool {
		stat, err := m.try("cat", fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(stat, ") Z ")
	})
}
