package proxy

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/frames/framestest"
)

// cable is a network between a proxy and its peer that can be cut: packets
// vanish, and no connection is told.
type cable struct {
	ln    net.Listener
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	c := &cable{ln: listen(t, "127.0.0.1:0")}
	go func() {
		for {
			near, err := c.ln.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns = append(c.conns, near)
			if c.cut { // it is taken, and never read
				c.mu.Unlock()
				continue
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
			} else {
				c.conns = append(c.conns, far)
				go c.copy(near, far)
				go c.copy(far, near)
			}
			c.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		c.ln.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, conn := range c.conns {
			conn.Close()
		}
	})
	return c
}

func (c *cable) copy(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		cut := c.cut
		c.mu.Unlock()
		switch {
		case cut:
			return
		case err != nil:
			to.Close()
			return
		}
		to.Write(buf[:n])
	}
}

func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

// through has a host's proxy reached by a cable.
func (c *cable) through(p *fact) { p.Route.Address = c.ln.Addr().String() }

func TestHostThatLosesPowerIsNoticedAndPassedOver(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	cable := newCable(t, f.hosts["h2"].address)
	began := make(chan struct{}, 100)
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		began <- struct{}{}
		x.Wait()
	}, cable.through)
	url := f.hosts["h1"].url + "/acme/x"
	got := make(chan int, 1)
	go func() {
		resp, _ := get(t, newRequest(t, "GET", url, nil))
		got <- resp.StatusCode
	}()
	<-began
	cable.set(true)
	if status := <-got; status != 503 {
		t.Errorf("the request in flight got %d", status)
	}
	f.hosts["h1"].logged.await("circuit open: sending no requests to a host")
	f.place("h3", "acme.1", says("third"))
	for range 30 {
		if resp, body := get(t, newRequest(t, "GET", url, nil)); resp.StatusCode != 200 || body != "third" {
			t.Fatalf("then got %d %q", resp.StatusCode, body)
		}
	}
}

func TestRequestsWaitForTheOnlyHostToComeBack(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	cable := newCable(t, f.hosts["h2"].address)
	cable.set(true)
	f.place("h2", "acme.0", says("back"), cable.through)
	got := make(chan string)
	for range 10 {
		go func() {
			_, body := get(t, newRequest(t, "POST", f.hosts["h1"].url+"/acme/x", strings.NewReader("body")))
			got <- body
		}()
	}
	f.hosts["h1"].logged.await("circuit open")
	cable.set(false)
	for range 10 {
		if body := <-got; body != "back" {
			t.Errorf("got %q", body)
		}
	}
	if !strings.Contains(f.hosts["h1"].logged.text(), "circuit closed") {
		t.Errorf("nothing was said of the recovery: %s", f.hosts["h1"].logged.text())
	}
}

func TestPeerThatIsKilledBreaksOffItsRequestsAndNoOthers(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	cable := newCable(t, f.hosts["h2"].address)
	began := make(chan struct{})
	cancelled := make(chan error, 1)
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		x.Answer(200, nil, "some", false)
		close(began)
		cancelled <- x.Wait()
	}, cable.through)
	resp, err := http.DefaultClient.Do(newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-began
	f.place("h3", "acme.1", says("third"))
	cable.ln.Close() // as a proxy's end does
	cable.mu.Lock()
	for _, c := range cable.conns {
		c.Close()
	}
	cable.mu.Unlock()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the answer seems whole")
	}
	if err := <-cancelled; err != framestest.ErrReset {
		t.Errorf("the function got %v", err)
	}
	for range 20 {
		if resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil)); resp.StatusCode != 200 || body != "third" {
			t.Fatalf("then got %d %q", resp.StatusCode, body)
		}
	}
	if rec := f.hosts["h1"].log.record(t); rec["cause"] != "answer_broken_off" || rec["host"] != "h2" {
		t.Errorf("access record %v", rec)
	}
}

func TestHostThatHasJustBootedIsWaitedFor(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	later := framestest.Listen(t, says("booted"))
	socket := filepath.Join(t.TempDir(), "run.sock")
	at := func(p *fact) { p.Instance.Endpoint, p.Lost = socket, true }
	f.place("h1", "near.0", nil, at)
	f.place("h2", "far.0", nil, at)
	got := make(chan string)
	for _, tenant := range []string{"near", "far"} {
		go func() {
			_, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/"+tenant+"/x", nil))
			got <- body
		}()
	}
	for _, host := range []string{"h1", "h2"} {
		f.hosts[host].logged.await("circuit open")
	}
	if err := os.Symlink(later, socket); err != nil { // the agent makes it
		t.Fatal(err)
	}
	for range 2 {
		if body := <-got; body != "booted" {
			t.Errorf("got %q", body)
		}
	}
}

func TestSuspectInstanceIsALastResort(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	suspect := func(p *fact) { p.Lost = true }
	f.place("h2", "acme.0", says("suspect"), suspect)
	url := f.hosts["h1"].url + "/acme/x"
	if _, body := get(t, newRequest(t, "GET", url, nil)); body != "suspect" {
		t.Errorf("alone: got %q", body)
	}
	f.place("h3", "acme.1", says("known"))
	for range 20 {
		if _, body := get(t, newRequest(t, "GET", url, nil)); body != "known" {
			t.Fatalf("beside one that is known to serve: got %q", body)
		}
	}
}

func TestHostThatLiesGetsNothing(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	f.place("h3", "acme.0", says("placed"))
	reached := func(x *framestest.Exchange) { t.Error("a request reached a host that it was not placed on") }
	f.place("h2", "acme.1", reached, func(p *fact) { p.Route = nil })
	f.place("h2", "globex.0", reached, func(p *fact) { p.Route = nil })
	f.place("h2", "acme.0", reached, func(p *fact) { p.Route.Host = "h3" })
	for range 20 {
		if _, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil)); body != "placed" {
			t.Fatalf("got %q", body)
		}
	}
	if resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/globex/x", nil)); resp.StatusCode != 404 {
		t.Errorf("a tenant that was placed nowhere: got %d %s", resp.StatusCode, body)
	}
}

func TestInstancesThatComeAndGoLoseNoRequest(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	ok := says("ok")
	f.place("h2", "acme.0", ok)
	stop := make(chan struct{})
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if resp, body := get(t, newRequest(t, "POST", f.hosts["h1"].url+"/acme/x", strings.NewReader("body"))); resp.StatusCode != 200 || body != "ok" {
					t.Errorf("got %d %q", resp.StatusCode, body)
					return
				}
			}
		})
	}
	hosts := []string{"h2", "h3", "h1"}
	for i := range 30 { // the next is there before the last goes
		f.place(hosts[(i+1)%3], "acme.0", ok)
		f.place(hosts[i%3], "acme.0", ok, func(p *fact) { p.Route.Leaving = true })
		f.known.put("acme", hosts[i%3]+"/acme.0", fact{})
		f.tell()
	}
	close(stop)
	work.Wait()
}

func TestReadyOnceRoutesAreKnownAndUntilItLeaves(t *testing.T) {
	p := start(t, nil)
	status := func() int {
		resp, _ := get(t, newRequest(t, "GET", p.url+readyPath, nil))
		return resp.StatusCode
	}
	if got := status(); got != 503 {
		t.Errorf("before there are routes: %d", got)
	}
	set(p.table, cluster.Instance{Tenant: "acme", Instance: "acme.0", Host: "h1", Phase: cluster.Starting})
	if got := status(); got != 200 {
		t.Errorf("then: %d", got)
	}
	p.proxy.opts.Leaving = filepath.Join(t.TempDir(), "leaving")
	if err := os.WriteFile(p.proxy.opts.Leaving, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != 503 {
		t.Errorf("told to leave: %d", got)
	}
	if err := os.Remove(p.proxy.opts.Leaving); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != 200 {
		t.Errorf("told to stay after all: %d", got)
	}
	p.proxy.opts.Leave = 0
	p.proxy.leave(t.Context())
	if got := status(); got != 503 {
		t.Errorf("leaving: %d", got)
	}
	if resp, _ := get(t, newRequest(t, "GET", p.url+healthPath, nil)); resp.StatusCode != 200 {
		t.Errorf("leaving, it is not alive: %d", resp.StatusCode)
	}
}
