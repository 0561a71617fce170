package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

func echo(x *framestest.Exchange) {
	x.Answer(200, nil, "", false)
	io.Copy(x, x.Body)
	x.End()
}

func says(what string) func(*framestest.Exchange) {
	return func(x *framestest.Exchange) {
		io.Copy(io.Discard, x.Body)
		x.Answer(200, nil, what, true)
	}
}

func TestRequestReachesAnInstanceOnAnotherHost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	seen := make(chan map[string]string, 1)
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		got := map[string]string{"target": string(x.Request.Target)}
		for id, value := range x.Request.Fields.All() {
			got[fmt.Sprint("field ", id)] = string(value)
		}
		seen <- got
		x.Answer(201, map[string]string{"x-mine": "1"}, "from afar", true)
	})
	resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/hello?x=1", nil))
	if resp.StatusCode != 201 || body != "from afar" || resp.Header.Get("X-Mine") != "1" {
		t.Fatalf("got %d %q %v", resp.StatusCode, body, resp.Header)
	}
	got := <-seen
	rec := f.hosts["h1"].log.record(t)
	for name, want := range map[string]string{
		"target": "/acme/hello?x=1", "field 1": resp.Header.Get("X-Request-Id"), "field 2": "acme", "field 3": "hello",
		"field 4": rec["client"].(string), "field 5": "http", "field 6": f.hosts["h1"].addr, "field 7": "/acme/hello",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if rec["host"] != "h2" || rec["status"] != 201.0 || rec["tries"] != nil {
		t.Errorf("access record %v", rec)
	}
}

func TestInstanceOnThisHostComesFirst(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h1", "acme.0", says("near"))
	f.place("h2", "acme.1", says("far"))
	for range 20 {
		if _, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil)); body != "near" {
			t.Fatalf("got %q", body)
		}
	}
	f.place("h1", "acme.0", says("near"), func(p *fact) { p.Route.Leaving = true })
	if _, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil)); body != "far" {
		t.Fatalf("while the near one is leaving: got %q", body)
	}
}

func TestBodiesStreamBothWaysThroughAnotherHost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", echo)
	pr, pw := io.Pipe()
	resp, err := http.DefaultClient.Do(newRequest(t, "POST", f.hosts["h1"].url+"/acme/echo", pr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewReader(resp.Body)
	for i := range 5 {
		want := fmt.Sprintf("line %d\n", i)
		io.WriteString(pw, want)
		if got, err := answers.ReadString('\n'); got != want || err != nil {
			t.Fatalf("got %q %v, want %q", got, err, want)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(answers); len(rest) > 0 || err != nil {
		t.Fatalf("then got %q %v", rest, err)
	}
}

func TestLargeBodiesArriveWholeThroughAnotherHost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", echo)
	want := bytes.Repeat([]byte("0123456789abcdef"), 600_000)
	for name, body := range map[string]io.Reader{"with content-length": bytes.NewReader(want), "chunked": io.MultiReader(bytes.NewReader(want))} {
		_, got := get(t, newRequest(t, "POST", f.hosts["h1"].url+"/acme/echo", body))
		if got != string(want) {
			t.Errorf("%s: got %d bytes, want %d, or they differ", name, len(got), len(want))
		}
	}
}

func TestTrailersPassThroughAnotherHost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		x.Answer(200, nil, "", false)
		io.Copy(x, x.Body)
		x.Trail(frames.AppendHeaderLine(frames.AppendHeaderCount(nil), 0, []byte("x-back"), x.Trailers().Get("x-sum")))
	})
	req := newRequest(t, "POST", f.hosts["h1"].url+"/acme/x", io.MultiReader(strings.NewReader("body")))
	req.Trailer = http.Header{"X-Sum": {"42"}}
	resp, body := get(t, req)
	if body != "body" || resp.Trailer.Get("X-Back") != "42" {
		t.Fatalf("got %q %v", body, resp.Trailer)
	}
}

func TestUpgradedConnectionPassesThroughAnotherHost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", echoUpgraded)
	c, in := switched(t, f.hosts["h1"].testProxy, "early ")
	io.WriteString(c, "late")
	c.CloseWrite()
	if all, err := io.ReadAll(in); string(all) != "early late" || err != nil {
		t.Fatalf("got %q %v", all, err)
	}
}

func TestBodyIsAskedForThroughAnotherHost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		x.Window(0)
		body, _ := io.ReadAll(x.Body)
		x.Answer(200, nil, string(body), true)
	})
	c := dial(t, f.hosts["h1"].testProxy, "POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	in := bufio.NewReader(c)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 100 {
		t.Fatalf("got %v %v, want 100", resp, err)
	}
	io.WriteString(c, "body")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "body" {
		t.Fatalf("got %q", body)
	}
}

func TestClientThatHangsUpCancelsItsRequestOnAnotherHost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	began, cancelled := make(chan struct{}), make(chan error, 1)
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		close(began)
		cancelled <- x.Wait()
	})
	c := dial(t, f.hosts["h1"].testProxy, "GET /acme/slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	c.SetLinger(0)
	c.Close()
	if err := <-cancelled; err != framestest.ErrReset {
		t.Fatalf("got %v", err)
	}
	if rec := f.hosts["h1"].log.record(t); rec["status"] != 499.0 || rec["host"] != "h2" {
		t.Errorf("access record %v", rec)
	}
}

func TestRequestOfAnotherHostGoesToNoThird(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	f.place("h3", "acme.0", says("third"))
	// To h1 alone the instance seems to be on h2, which knows better: passed
	// on, the request would succeed.
	stale := known{}
	wrong := f.known["acme"]["h3/acme.0"]
	route, in := *wrong.Route, *wrong.Instance
	route.Host, in.Host, route.Address = "h2", "h2", f.hosts["h2"].address
	stale.put("acme", "h2/acme.0", fact{Route: &route, Instance: &in})
	f.hosts["h1"].proxy.opts.Hold = 0
	setKnown(f.hosts["h1"].table, stale)
	resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil))
	if resp.StatusCode != 503 || !strings.Contains(body, "instance_unreachable") || !strings.Contains(body, "no instance of the tenant is on host h2") {
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
}

func TestRequestThatAHostRefusesUnseenGoesToAnother(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	f.place("h2", "acme.0", says("second"))
	f.place("h3", "acme.1", says("third"))
	// h2 does not know that it has it.
	setKnown(f.hosts["h2"].table, known{})
	for i := range 20 {
		resp, body := get(t, newRequest(t, "POST", f.hosts["h1"].url+"/acme/x", strings.NewReader("body")))
		if resp.StatusCode != 200 || body != "third" {
			t.Fatalf("request %d: got %d %q", i, resp.StatusCode, body)
		}
	}
}

func TestInstanceThatEndsWithARequestInFlightIsToldFromAHostThatRefuses(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", func(x *framestest.Exchange) { x.HangUp() })
	resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil))
	if resp.StatusCode != 503 || !strings.Contains(body, "instance_gone") {
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
}

func TestConnectionThatIsNoProxysIsRefused(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", says("reached"))
	strangers := newAuthority(t)
	for name, files := range map[string]*PeerFiles{
		"of another authority":             {CA: f.ca.file, Cert: strangers.peer("h1").Cert, Key: strangers.peer("h1").Key},
		"to a host that is another":        f.ca.peer("h1"),
		"of a certificate for no host":     f.notAHost(),
		"of a proxy that trusts strangers": {CA: strangers.file, Cert: f.ca.peer("h1").Cert, Key: f.ca.peer("h1").Key},
	} {
		t.Run(name, func(t *testing.T) {
			tls := &peerTLS{host: "h1", files: *files, pair: &pair{cert: files.Cert, key: files.Key, say: func(error) {}}}
			tls.pair.current()
			host := "h2"
			if name == "to a host that is another" {
				host = "h3"
			}
			table := NewTable("h1", f.hosts["h1"].table.log)
			table.setDialer(tls.dial)
			p := &peer{peerID: peerID{host, f.hosts["h2"].address}, table: table}
			if client, err := p.dial(); err == nil {
				client.Close()
				t.Fatal("it was let in")
			} else {
				t.Log(err)
			}
		})
	}
}

func (f *fleet) notAHost() *PeerFiles {
	cert, key := f.ca.issue("other", "etcd.example.org")
	return &PeerFiles{CA: f.ca.file, Cert: cert, Key: key}
}

func TestProxyThatLeavesFinishesWhatOtherHostsAsked(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	began, release := make(chan struct{}), make(chan struct{})
	f.place("h2", "acme.0", func(x *framestest.Exchange) {
		began <- struct{}{}
		<-release
		x.Answer(200, nil, "second", true)
	})
	got := make(chan string)
	go func() {
		_, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil))
		got <- body
	}()
	<-began
	f.place("h3", "acme.1", says("third"))
	stopped := make(chan struct{})
	go func() { f.hosts["h2"].stop(); close(stopped) }()
	for body := ""; body != "third"; { // until it has heard
		select {
		case <-began:
			t.Log("h2 still takes requests")
		default:
		}
		_, body = get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil))
	}
	close(release)
	if body := <-got; body != "second" {
		t.Fatalf("got %q", body)
	}
	<-stopped
}

func TestNoiseOfAPeerHarmsNobodyElse(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.place("h2", "acme.0", says("ok"))
	noise := framestest.NewNoise(t, "../internal/frames/testdata", 5)
	evil := f.hosts["h1"].proxy.peerTLS
	for round := range 150 {
		c, err := evil.dial(t.Context(), "h2", f.hosts["h2"].address)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(noise.Frames("proxy"))
		c.(interface{ CloseWrite() error }).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
		if resp, body := get(t, newRequest(t, "GET", f.hosts["h1"].url+"/acme/x", nil)); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("round %d: the victim gets %d %q", round, resp.StatusCode, body)
		}
	}
}
