package orders_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent/orders"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

// actions stand in for systemd's: they count, and end when they are told to.
// The real ones run on a real host (test/host).
type actions struct {
	mu      sync.Mutex
	ran     []string
	end     map[string]chan error
	started chan struct{}
}

func (a *actions) Actions(context.Context) ([]string, error) { return []string{"reboot", "slow"}, nil }

func (a *actions) StartAction(_ context.Context, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ran = append(a.ran, name)
	close(a.started)
	return nil
}

func (a *actions) ActionSince(_ context.Context, name string, _ time.Time) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ran) > 0, nil
}

func (a *actions) AwaitAction(ctx context.Context, name string) error {
	select {
	case err := <-a.end[name]:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// site is a host whose agent carries out orders.
type site struct {
	t       *testing.T
	etcd    *clientv3.Client
	config  orders.Config
	actions *actions
	well    chan struct{}
	images  []string
	door    string
	stop    func()
}

func newSite(t *testing.T) *site {
	_, cli := etcdtest.New(t)
	s := &site{t: t, etcd: cli, actions: &actions{end: map[string]chan error{"reboot": make(chan error), "slow": make(chan error)}, started: make(chan struct{})}}
	s.door = filepath.Join(t.TempDir(), "leaving")
	s.config = orders.Config{
		Host: "h1", Etcd: cli, Dir: t.TempDir(), Boot: "one", Door: orders.Door(s.door), Linger: time.Millisecond,
		Actions: s.actions, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Image: func(_ context.Context, o cluster.Order) error {
			s.images = append(s.images, o.Image)
			return nil
		},
	}
	s.start(true)
	t.Cleanup(func() { s.stop() })
	return s
}

// start begins as an agent does that starts; well says that it sees to its
// host at once.
func (s *site) start(well bool) {
	s.t.Helper()
	s.well = make(chan struct{})
	if well {
		close(s.well)
	}
	s.config.Well = s.well
	o, err := orders.New(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); o.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { cancel(); <-done })
}

func (s *site) order(o cluster.Order) {
	s.t.Helper()
	value, err := json.Marshal(o)
	if err == nil {
		_, err = s.etcd.Put(s.t.Context(), cluster.OrderKey("h1"), string(value))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// withdraw ends the order in force.
func (s *site) withdraw() {
	s.t.Helper()
	if _, err := s.etcd.Delete(s.t.Context(), cluster.OrderKey("h1")); err != nil {
		s.t.Fatal(err)
	}
}

// report waits for a report that is so.
func (s *site) report(so func(cluster.Report) bool) cluster.Report {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	var last cluster.Report
	for b := range etcd.Watch(ctx, s.etcd, cluster.ReportKey("h1")) {
		for _, e := range b.Events {
			if err := json.Unmarshal(e.Value, &last); err != nil {
				s.t.Fatal(err)
			}
			if so(last) {
				return last
			}
		}
	}
	s.t.Fatalf("not so within 20 s: the last report is %+v", last)
	return last
}

func is(id, state string) func(cluster.Report) bool {
	return func(r cluster.Report) bool { return r.Order == id && r.State == state }
}

// leaving waits until the proxy is told to leave, or to stay.
func (s *site) leaving(want bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := os.Stat(s.door)
		if (err == nil) == want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("leaving is %v, want %v", err == nil, want)
		}
		time.Sleep(time.Millisecond) // a file that comes tells nobody
	}
}

func TestHostLeavesUntilItsOrderIsGone(t *testing.T) {
	s := newSite(t)
	s.order(cluster.Order{ID: "a", Leave: true})
	if r := s.report(is("a", cluster.OrderDone)); !r.Left {
		t.Error("it is done, and the proxy has not left")
	}
	s.leaving(true)
	s.stop()
	s.start(false)
	s.leaving(true)
	s.withdraw()
	s.order(cluster.Order{ID: "b"})
	s.order(cluster.Order{ID: "c", Leave: true})
	s.report(is("c", cluster.OrderDone))
	s.leaving(true)
	close(s.well)
	s.withdraw()
	s.leaving(false)
}

func TestHostThatIsToLeaveLingers(t *testing.T) {
	s := newSite(t)
	s.stop()
	s.config.Linger = time.Hour
	s.start(true)
	s.order(cluster.Order{ID: "a", Leave: true, Action: "slow"})
	s.leaving(true)
	if r := s.report(is("a", cluster.OrderDoing)); r.Left {
		t.Error("the proxy has left at once")
	}
	s.withdraw()
	s.leaving(false)
	s.order(cluster.Order{ID: "b"})
	s.report(is("b", cluster.OrderDone))
	if len(s.actions.ran) > 0 {
		t.Error("an order that was withdrawn was carried out")
	}
}

func TestActionRunsOnceAlthoughTheAgentIsKilled(t *testing.T) {
	s := newSite(t)
	s.order(cluster.Order{ID: "a", Action: "slow"})
	<-s.actions.started
	for range 3 {
		s.stop()
		s.start(true)
	}
	s.actions.end["slow"] <- nil
	s.report(is("a", cluster.OrderDone))
	s.stop()
	s.start(true)
	s.order(cluster.Order{ID: "b", Image: "sha256:1"})
	s.report(is("b", cluster.OrderDone))
	if len(s.actions.ran) != 1 {
		t.Errorf("ran %v", s.actions.ran)
	}
}

func TestRebootIsDoneInTheNextBoot(t *testing.T) {
	s := newSite(t)
	s.order(cluster.Order{ID: "a", Leave: true, Action: "reboot"})
	<-s.actions.started
	s.report(is("a", cluster.OrderDoing))
	s.stop()
	s.config.Boot = "two"
	s.start(false)
	s.leaving(true) // until it is well
	close(s.well)
	s.leaving(false)
	if r := s.report(is("a", cluster.OrderDone)); !r.Left || len(s.actions.ran) != 1 {
		t.Errorf("report %+v, ran %v", r, s.actions.ran)
	}
}

// The power fails while the host lingers: it is still to be patched.
func TestBootBeforeTheActionIsNotTheActions(t *testing.T) {
	s := newSite(t)
	s.stop()
	s.config.Linger = time.Hour
	s.start(true)
	s.order(cluster.Order{ID: "a", Leave: true, Action: "reboot"})
	s.leaving(true)
	s.report(is("a", cluster.OrderDoing))
	s.stop()
	s.config.Boot, s.config.Linger = "two", time.Millisecond
	s.start(true)
	<-s.actions.started
	s.leaving(true)
}

func TestWhoWasGrantedItsTurnIsBackAfterAReboot(t *testing.T) {
	s := newSite(t)
	s.order(cluster.Order{ID: "a", Leave: true, Granted: true})
	s.report(is("a", cluster.OrderDone))
	s.leaving(true)
	s.stop()
	s.config.Boot = "two"
	s.start(true)
	s.leaving(false)
}

func TestOrderThatCannotBeCarriedOutSaysWhy(t *testing.T) {
	s := newSite(t)
	s.order(cluster.Order{ID: "a", Action: "rm -rf /"})
	r := s.report(is("a", cluster.OrderFailed))
	for _, want := range []string{`"rm -rf /"`, "there are reboot, slow"} {
		if !strings.Contains(r.Error, want) {
			t.Errorf("%q does not say %s", r.Error, want)
		}
	}
	s.order(cluster.Order{ID: "b", Release: "sha256:2"})
	if r := s.report(is("b", cluster.OrderFailed)); !strings.Contains(r.Error, "where to fetch") {
		t.Errorf("release: %q", r.Error)
	}
	s.order(cluster.Order{ID: "c", Action: "slow"})
	<-s.actions.started
	s.actions.end["slow"] <- errors.New("it broke")
	if r := s.report(is("c", cluster.OrderFailed)); r.Error != "it broke" {
		t.Errorf("action: %q", r.Error)
	}
}

func TestInvalidOrderLeavesTheLastInForce(t *testing.T) {
	s := newSite(t)
	s.order(cluster.Order{ID: "a", Leave: true})
	s.report(is("a", cluster.OrderDone))
	for _, bad := range []string{"{", `{"leave":false}`} {
		if _, err := s.etcd.Put(t.Context(), cluster.OrderKey("h1"), bad); err != nil {
			t.Fatal(err)
		}
	}
	s.order(cluster.Order{ID: "b", Leave: true})
	s.report(is("b", cluster.OrderDone))
	s.leaving(true)
}
