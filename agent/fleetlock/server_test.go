package fleetlock

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent/orders"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

func TestMachineCallsItselfAsSystemdSays(t *testing.T) {
	got, err := MachineID("/etc/machine-id")
	if err != nil {
		t.Skipf("this machine has no ID: %v", err)
	}
	out, err := exec.Command("systemd-id128", "machine-id", "--app-specific="+zincati).Output()
	if err != nil {
		t.Skipf("no systemd-id128 to judge: %v", err)
	}
	if want := strings.TrimSpace(string(out)); got != want {
		t.Errorf("got %s, and systemd says %s", got, want)
	}
}

// What systemd-id128 says of this machine-id(5), for where it isn't.
func TestMachineOfAnID(t *testing.T) {
	file := filepath.Join(t.TempDir(), "machine-id")
	for text, want := range map[string]string{
		"3d1219c7c4c5404aaa1f6d2a48adfda4\n": "975228d46dc94622b9bbe16671e2b58d",
		"uninitialized\n":                    "",
		"":                                   "",
		"3d1219":                             "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
		got, err := MachineID(file)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

const machine = "975228d46dc94622b9bbe16671e2b58d"

// lock is a host that answers its machine, with the orders that the test gives
// it as a scheduler would.
type lock struct {
	t       *testing.T
	etcd    *clientv3.Client
	address string
}

func newLock(t *testing.T, patience time.Duration) *lock {
	t.Helper()
	_, cli := etcdtest.New(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	well := make(chan struct{})
	close(well)
	all, err := orders.New(orders.Config{
		Host: "h1", Etcd: cli, Dir: t.TempDir(), Boot: "one", Door: orders.Door(filepath.Join(t.TempDir(), "leaving")),
		Linger: time.Millisecond, Well: well, Actions: orders.None{}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Turn: Turn{"h1", cli, all.Current}, ID: machine, Log: log, TakePatience: patience, GivePatience: patience}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	run := make(chan struct{})
	go func() { defer close(run); all.Run(ctx) }()
	go func() { ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-run
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &lock{t, cli, ln.Addr().String()}
}

// answer is what Zincati gets.
type answer struct {
	status int
	kind   string
}

// zincati sends what Zincati does, to the byte: reqwest's POST of a JSON text,
// without a type.
func (l *lock) zincati(path, id, group string) <-chan answer {
	l.t.Helper()
	body := fmt.Sprintf(`{"client_params":{"id":%q,"group":%q}}`, id, group)
	return l.raw(fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nfleet-lock-protocol: true\r\naccept: */*\r\nhost: %s\r\ncontent-length: %d\r\n\r\n%s", path, l.address, len(body), body))
}

func (l *lock) raw(request string) <-chan answer {
	l.t.Helper()
	c := l.connect(request)
	got := make(chan answer, 1)
	go func() {
		defer c.Close()
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			l.t.Errorf("no answer: %v", err)
			got <- answer{}
			return
		}
		var said struct{ Kind, Value string }
		data, err := io.ReadAll(r.Body)
		if r.StatusCode != 200 {
			err = json.Unmarshal(data, &said)
		}
		if err != nil || r.StatusCode != 200 && said.Value == "" {
			l.t.Errorf("status %d, body %q: %v", r.StatusCode, data, err)
		}
		got <- answer{r.StatusCode, said.Kind}
	}()
	return got
}

func (l *lock) connect(request string) net.Conn {
	l.t.Helper()
	c, err := net.Dial("tcp", l.address)
	if err == nil {
		_, err = io.WriteString(c, request)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// ask waits until the host asks for that.
func (l *lock) ask(wanted bool) cluster.Ask {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	for b := range etcd.Watch(ctx, l.etcd, cluster.AskKey("h1")) {
		for _, e := range b.Events {
			var a cluster.Ask
			if err := json.Unmarshal(e.Value, &a); err != nil {
				l.t.Fatal(err)
			}
			if a.Wanted == wanted {
				return a
			}
		}
	}
	l.t.Fatalf("the host does not ask (wanted %v)", wanted)
	return cluster.Ask{}
}

func (l *lock) order(text string) {
	l.t.Helper()
	var err error
	if text == "" {
		_, err = l.etcd.Delete(l.t.Context(), cluster.OrderKey("h1"))
	} else {
		_, err = l.etcd.Put(l.t.Context(), cluster.OrderKey("h1"), text)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lock) want(sentence string, got <-chan answer, want answer) {
	l.t.Helper()
	if a := <-got; a != want {
		l.t.Errorf("%s: %+v, want %+v", sentence, a, want)
	}
}

func (l *lock) waits(sentence string, got <-chan answer) {
	l.t.Helper()
	select {
	case a := <-got:
		l.t.Fatalf("%s: answered already: %+v", sentence, a)
	default:
	}
}

var ok = answer{status: 200}

func TestMachineTakesItsTurnAndGivesItBack(t *testing.T) {
	l := newLock(t, 0)
	l.want("what it does not hold", l.zincati("steady-state", machine, "default"), ok)
	got := l.zincati("pre-reboot", machine, "workers")
	if a := l.ask(true); a.Group != "workers" || a.ID != machine || a.Time.IsZero() {
		t.Errorf("it asks %+v", a)
	}
	l.order(`{"id":"1","leave":true}`)
	l.waits("its host is being drained", got)
	l.order(`{"id":"2","leave":true,"granted":true}`)
	l.want("granted", got, ok)
	l.want("granted already", l.zincati("pre-reboot", machine, "workers"), ok)
	back := l.zincati("steady-state", machine, "workers")
	l.ask(false)
	l.waits("its host has not been seen to be well", back)
	l.order("")
	l.want("given back", back, ok)
}

func TestLateAnswersAreRefusals(t *testing.T) {
	l := newLock(t, 50*time.Millisecond)
	l.want("its turn has not come", l.zincati("pre-reboot", machine, "default"), answer{409, "not_granted"})
	asked := l.ask(true)
	l.want("its turn has not come", l.zincati("pre-reboot", machine, "default"), answer{409, "not_granted"})
	if again := l.ask(true); again != asked {
		t.Errorf("asked again it asks %+v, before it was %+v", again, asked)
	}
	l.order(`{"id":"1","granted":true}`)
	l.want("its host has not been seen to be well", l.zincati("steady-state", machine, "default"), answer{409, "not_healthy"})
}

// Zincati's own client gives up after half an hour; its wish stands.
func TestMachineThatDoesNotWaitKeepsItsPlace(t *testing.T) {
	l := newLock(t, 0)
	body := fmt.Sprintf(`{"client_params":{"id":%q,"group":"default"}}`, machine)
	c := l.connect(fmt.Sprintf("POST /v1/pre-reboot HTTP/1.1\r\nfleet-lock-protocol: true\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s", len(body), body))
	l.ask(true)
	c.Close()
	l.order(`{"id":"1","granted":true}`)
	l.want("asked again", l.zincati("pre-reboot", machine, "default"), ok)
}

func TestOnlyThisMachineIsAnswered(t *testing.T) {
	l := newLock(t, 0)
	other := strings.Repeat("0", 32)
	l.want("another machine", l.zincati("pre-reboot", other, "default"), answer{403, "wrong_id"})
	l.want("another machine", l.zincati("steady-state", other, "default"), answer{403, "wrong_id"})
	l.want("no group", l.zincati("pre-reboot", machine, ""), answer{400, "bad_request"})
	l.want("a group of other letters", l.zincati("pre-reboot", machine, "a/b"), answer{400, "bad_request"})
	for sentence, request := range map[string]string{
		"without the protocol's header": "POST /v1/pre-reboot HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
		"a body that is not JSON":       "POST /v1/pre-reboot HTTP/1.1\r\nhost: x\r\nfleet-lock-protocol: true\r\ncontent-length: 2\r\n\r\n{[",
		"a body without end":            "POST /v1/pre-reboot HTTP/1.1\r\nhost: x\r\nfleet-lock-protocol: true\r\ncontent-length: 20000\r\n\r\n" + strings.Repeat(" ", 20000),
	} {
		l.want(sentence, l.raw(request), answer{400, "bad_request"})
	}
	l.want("another path", l.raw("POST /v1/reboot HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"), answer{404, "bad_request"})
	found, err := l.etcd.Get(t.Context(), cluster.AsksPrefix, clientv3.WithPrefix())
	if err != nil || len(found.Kvs) > 0 {
		t.Errorf("asked for all the same: %v (error %v)", found, err)
	}
}
