package breakin

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"bulkhead/test/breakin/breach"
	"bulkhead/test/host"
)

// secret is the neighbour's key, and in all else that he has to lose.
const secret = "the-loot-that-nobody-else-may-see"

const (
	bulkhead = "/opt/bulkhead/bulkhead"
	victim   = "bulkhead-victim-0.service"
	attacker = "bulkhead-attacker-0.service"
)

// site is a host with two tenants.
type site struct {
	t *testing.T
	*host.Host
	orders breach.Orders
}

// newSite brings one up. The attacker's runner has the hole.
func newSite(t *testing.T) *site {
	t.Helper()
	bin := root(t) + "/bin"
	for _, b := range []string{"bulkhead", "bulkhead-cell"} {
		if _, err := os.Stat(filepath.Join(bin, b)); err != nil {
			t.Fatalf("%v: scripts/build builds it", err)
		}
	}
	s := &site{t: t, Host: host.Start(t, "breakin")}
	s.CopyIn(bin+"/bulkhead", bulkhead)
	s.CopyIn(build(t, "./cmd/bulkhead-runner", "breach"), "/opt/bulkhead/bulkhead-runner")
	s.CopyIn(build(t, "./test/breakin/cmd/burglar"), "/opt/breakin/burglar")
	out, err := exec.Command(bin+"/bulkhead", "image", "build", "--state", t.TempDir()).Output()
	if err != nil {
		t.Fatalf("cannot build the image: %v", err)
	}
	image := strings.TrimSpace(string(out))
	s.LoadImage(image)
	s.Exec("systemd-run", "--quiet", "--unit=bulkhead-up", "--service-type=exec",
		bulkhead, "up", "--image", image, "--egress=false")
	s.until("the host is ready", bulkhead+" host list 2>/dev/null | grep -q ' ready '")
	s.inhabit()
	return s
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// build builds a command of ours, and returns the binary's path.
func build(t *testing.T, pkg string, tags ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", strings.Join(tags, ","), "-o", bin, pkg)
	cmd.Dir, cmd.Env = root(t), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return bin
}

// until waits for what nobody tells: a condition of the host's shell.
func (s *site) until(what, condition string) {
	s.t.Helper()
	if out, err := s.Try("timeout", "90", "sh", "-c", "until "+condition+"; do sleep 0.1; done"); err != nil {
		status, _ := s.Try("journalctl", "--no-pager", "--lines=40")
		s.t.Fatalf("%s: not within 90 s: %v\n%s\n%s", what, err, out, status)
	}
}

// inhabit registers the two tenants, has both of them awake, and lays out what
// there is to take.
func (s *site) inhabit() {
	s.t.Helper()
	for _, tenant := range []string{"attacker", "victim"} {
		key := strings.Repeat("k", 40)
		if tenant == "victim" {
			key = secret
		}
		spec := fmt.Sprintf(`{"name":%q,"keys":[{"kid":"k","alg":"HS256","secret":%q}],"replicas":{"max":1},"sleep":{"freeze":"1h","dormant":"2h"}}`, tenant, key)
		s.Feed(strings.NewReader(spec), "sh", "-c", "cat >/root/spec.json")
		s.Exec(bulkhead, "tenant", "apply", "-f", "/root/spec.json")
		s.Feed(strings.NewReader("module.exports = (cb) => { console.log('served'); cb(null, 'hello'); }; // "+key), "sh", "-c", "cat >/root/hello.js")
		s.until(tenant+" can be called", bulkhead+" tenant show "+tenant+" -o json | grep -q '\"phase\": \"dormant\"'")
		s.Exec(bulkhead, "function", "deploy", tenant, "hello", "/root/hello.js")
		s.until(tenant+" answers", bulkhead+" invoke "+tenant+" hello >/dev/null")
		s.until(tenant+"'s log is kept", "journalctl --quiet TENANT="+tenant+" FUNCTION=hello | grep -q served")
	}
	const open, socket = "/etc/breakin-loot", "/run/breakin.sock"
	s.Exec("sh", "-c", "echo "+secret+" >"+open+" && chmod 644 "+open)
	s.Exec("ip", "address", "add", "169.254.169.254/32", "dev", "lo") // so that no packet leaves this machine
	s.Exec("systemd-run", "--quiet", "--unit=breakin-loot", "--service-type=notify", "--property=NotifyAccess=all", "/opt/breakin/burglar", "keep", secret, socket)
	private := "/run/bulkhead/instances/victim.0/private/"
	s.orders = breach.Orders{
		Secret:    secret,
		Files:     []string{private + "keys.json", private + "functions/hello.json", "/run/credentials/" + victim + "/tenant", "/root/hello.js"},
		Readable:  []string{open},
		Neighbour: s.pid(victim), Root: s.pid("bulkhead-up.service"),
		Sockets: []string{socket, "/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/bulkhead/instances/victim.0/run.sock"},
	}
}

// pid is the main process of a unit.
func (s *site) pid(unit string) int {
	s.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(s.Exec("systemctl", "show", "--property=MainPID", "--value", unit)))
	if err != nil || pid == 0 {
		s.t.Fatalf("%s does not run (error %v)", unit, err)
	}
	return pid
}

// attempts reads what somebody with orders printed, and fails when it is not
// about every attack.
func (s *site) attempts(who, printed string) map[string]breach.Attempt {
	s.t.Helper()
	got := map[string]breach.Attempt{}
	for line := range strings.Lines(printed) {
		var a breach.Attempt
		if text, ok := strings.CutPrefix(line, breach.Mark); ok && json.Unmarshal([]byte(text), &a) == nil {
			got[a.Attack] = a
		}
	}
	for _, name := range breach.Names() {
		if _, ok := got[name]; !ok {
			s.t.Fatalf("%s has not come to %q; it printed\n%s", who, name, printed)
		}
	}
	return got
}

// text is the orders as their variable has them.
func text(o breach.Orders) string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(b)
}
