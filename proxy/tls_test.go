package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

// secureProxy serves clients over TLS for example.org.
type secureProxy struct {
	testProxy
	ca     *authority
	client *http.Client // speaks HTTP/2 to whatever name, here
}

// startTLS runs a proxy over TLS in front of an instance of tenant acme.
func startTLS(t *testing.T, serve func(*framestest.Exchange)) secureProxy {
	t.Helper()
	s := secureProxy{ca: newAuthority(t)}
	cert, key := s.ca.issue("site", "example.org", "*.example.org")
	s.testProxy = startWith(t, Options{Domain: "example.org", TLS: &CertificateFiles{cert, key}}, (*Proxy).ServeTLS)
	s.url = "https://acme.example.org"
	if serve != nil {
		set(s.table, ready(framestest.Listen(t, serve)))
	}
	s.client = s.speaking(t, "h2")
	return s
}

// startWith runs a proxy with options on one listener.
func startWith(t *testing.T, o Options, serve func(*Proxy, net.Listener) error) testProxy {
	t.Helper()
	logged := &logBuffer{got: make(chan struct{}, 1000)}
	log := slog.New(slog.NewTextHandler(logged, nil))
	access := &logBuffer{got: make(chan struct{}, 1000)}
	table := NewTable("h1", log)
	o.Host, o.Hold, o.Access, o.Log = "h1", time.Minute, access, log
	p, err := New(table, o)
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t, "127.0.0.1:0")
	done := make(chan error, 1)
	go func() { done <- serve(p, ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return testProxy{ln.Addr().String(), "https://" + ln.Addr().String(), table, access, p}
}

func (s *secureProxy) config(protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: s.ca.pool(), ServerName: "acme.example.org", NextProtos: protocols}
}

// speaking is a client of one protocol, which finds every name at the proxy.
func (s *secureProxy) speaking(t *testing.T, protocol string) *http.Client {
	var p http.Protocols
	p.SetHTTP2(protocol == "h2")
	p.SetHTTP1(protocol != "h2")
	transport := &http.Transport{
		Protocols: &p, TLSClientConfig: &tls.Config{RootCAs: s.ca.pool()}, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, s.addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func do(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// eachProtocol runs a test over TLS with both.
func eachProtocol(t *testing.T, serve func(*framestest.Exchange), test func(*testing.T, secureProxy, *http.Client)) {
	for protocol, want := range map[string]int{"http/1.1": 1, "h2": 2} {
		t.Run(protocol, func(t *testing.T) {
			s := startTLS(t, serve)
			c := s.speaking(t, protocol)
			test(t, s, c)
			if resp, _ := do(t, c, newRequest(t, "GET", s.url+healthPath, nil)); resp.ProtoMajor != want {
				t.Errorf("this was HTTP/%d", resp.ProtoMajor)
			}
		})
	}
}

func TestRequestOverTLSReachesTheInstanceAsTheClientSentIt(t *testing.T) {
	seen := make(chan map[string]string, 1)
	eachProtocol(t, func(x *framestest.Exchange) {
		body, _ := io.ReadAll(x.Body)
		got := map[string]string{"method": string(x.Request.Method), "target": string(x.Request.Target), "body": string(body)}
		for name, value := range x.Request.Headers.All() {
			got[string(name)] += string(value)
		}
		for id, value := range x.Request.Fields.All() {
			got[fmt.Sprint("field ", id)] = string(value)
		}
		seen <- got
		x.Answer(201, map[string]string{"x-mine": "1", "connection": "close", "set-cookie": "a=b"}, "hi", true)
	}, func(t *testing.T, s secureProxy, c *http.Client) {
		req := newRequest(t, "POST", s.url+"/hello/a%20b?x=1", strings.NewReader("body"))
		req.Header.Set("X-Custom", "Ünïcode")
		req.Header.Set("X-Bulkhead-Tenant", "globex")
		req.Header.Set("X-Forwarded-For", "9.9.9.9")
		req.Header.Set("Te", "trailers")
		resp, body := do(t, c, req)
		got := <-seen
		for name, want := range map[string]string{
			"method": "POST", "target": "/hello/a%20b?x=1", "body": "body", "x-custom": "Ünïcode", "host": "acme.example.org",
			"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https", "content-length": "4",
			"field 2": "acme", "field 3": "hello", "field 5": "https", "field 6": "acme.example.org", "field 7": "/hello",
		} {
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
		for _, name := range []string{"x-bulkhead-tenant", "te"} {
			if v, ok := got[name]; ok {
				t.Errorf("%s: %s went through", name, v)
			}
		}
		if resp.StatusCode != 201 || body != "hi" || resp.Header.Get("X-Mine") != "1" || resp.Header.Get("Set-Cookie") != "a=b" || resp.Header.Get("Connection") != "" || resp.Header.Get("Content-Type") != "" {
			t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
		}
		rec := s.log.record(t)
		if id := resp.Header.Get("X-Request-Id"); id == "" || id != got["field 1"] || rec["req_id"] != id {
			t.Errorf("request id %q in the answer, %q at the instance", id, got["field 1"])
		}
		if rec["status"] != 201.0 || rec["tenant"] != "acme" || rec["path"] != "/hello/a%20b" || rec["in"] != 4.0 || rec["out"] != 2.0 || rec["client"] != got["field 4"] {
			t.Errorf("access record %v", rec)
		}
	})
}

func TestBodiesStreamBothWaysOverTLS(t *testing.T) {
	eachProtocol(t, echo, func(t *testing.T, s secureProxy, c *http.Client) {
		pr, pw := io.Pipe()
		resp, err := c.Do(newRequest(t, "POST", s.url+"/echo", pr))
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
	})
}

func TestLargeBodiesArriveWholeOverTLS(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	eachProtocol(t, echo, func(t *testing.T, s secureProxy, c *http.Client) {
		for name, body := range map[string]io.Reader{"with content-length": bytes.NewReader(want), "without": io.MultiReader(bytes.NewReader(want))} {
			if _, got := do(t, c, newRequest(t, "POST", s.url+"/echo", body)); got != string(want) {
				t.Errorf("%s: got %d bytes, want %d, or they differ", name, len(got), len(want))
			}
		}
	})
}

func TestTrailersPassOverTLS(t *testing.T) {
	eachProtocol(t, func(x *framestest.Exchange) {
		x.Answer(200, nil, "", false)
		io.Copy(x, x.Body)
		h := frames.AppendHeaderLine(frames.AppendHeaderCount(nil), 0, []byte("x-back"), x.Trailers().Get("x-sum"))
		x.Trail(frames.AppendHeaderLine(h, 0, []byte("set-cookie"), []byte("no")))
	}, func(t *testing.T, s secureProxy, c *http.Client) {
		req := newRequest(t, "POST", s.url+"/x", io.MultiReader(strings.NewReader("body")))
		req.Trailer = http.Header{"X-Sum": {"42"}}
		resp, body := do(t, c, req)
		if body != "body" || resp.Trailer.Get("X-Back") != "42" || resp.Trailer.Get("Set-Cookie") != "" {
			t.Fatalf("got %q %v", body, resp.Trailer)
		}
	})
}

func TestClientThatLeavesOverTLSCancelsItsRequest(t *testing.T) {
	for _, began := range []bool{false, true} {
		cancelled, started := make(chan error, 2), make(chan struct{}, 2)
		eachProtocol(t, func(x *framestest.Exchange) {
			if began {
				x.Answer(200, nil, "some", false)
			}
			started <- struct{}{}
			cancelled <- x.Wait()
		}, func(t *testing.T, s secureProxy, c *http.Client) {
			ctx, cancel := context.WithCancel(t.Context())
			req := newRequest(t, "GET", s.url+"/slow", nil).WithContext(ctx)
			done := make(chan error, 1)
			go func() {
				resp, err := c.Do(req)
				if err == nil {
					_, err = io.ReadAll(resp.Body)
				}
				done <- err
			}()
			<-started
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("the client got %v", err)
			}
			if err := <-cancelled; err != framestest.ErrReset {
				t.Errorf("the function got %v", err)
			}
			if rec := s.log.record(t); rec["cause"] != "client_gone" || !began && rec["status"] != 499.0 {
				t.Errorf("access record %v", rec)
			}
		})
	}
}

func TestPlatformErrorsAndBrokenAnswersOverTLS(t *testing.T) {
	eachProtocol(t, func(x *framestest.Exchange) {
		switch string(x.Request.Target) {
		case "/reset":
			x.Reset(frames.CodeInternal, "it broke")
		case "/gone":
			x.HangUp()
		case "/short":
			x.Answer(200, map[string]string{"content-length": "10"}, "abc", true)
		case "/late":
			x.Answer(200, nil, "some", false)
			x.Reset(frames.CodeInternal, "it broke")
		case "/longer":
			x.Answer(200, map[string]string{"content-length": "5"}, "abc", false)
			x.Write([]byte("defghi"))
			x.End()
		case "/early":
			x.Answer(413, nil, "too large", true)
		case "/head":
			x.Answer(200, map[string]string{"content-length": "5"}, "", true)
		case "/none":
			x.Answer(204, nil, "", true)
		}
	}, func(t *testing.T, s secureProxy, c *http.Client) {
		for path, want := range map[string]string{"/reset": "502 instance_reset", "/gone": "503 instance_gone", "/short": "502 bad_answer", "/": "404 function_unknown"} {
			resp, body := do(t, c, newRequest(t, "GET", s.url+path, nil))
			status, cause, _ := strings.Cut(want, " ")
			if fmt.Sprint(resp.StatusCode) != status || !strings.Contains(body, `"`+cause+`"`) || !strings.Contains(body, resp.Header.Get("X-Request-Id")) || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: got %d %s", path, resp.StatusCode, body)
			}
		}
		resp, body := do(t, c, newRequest(t, "GET", "https://globex.example.org/x", nil))
		if resp.StatusCode != 404 || !strings.Contains(body, "tenant_unknown") {
			t.Errorf("another tenant: got %d %s", resp.StatusCode, body)
		}
		for _, path := range []string{"/late", "/longer"} {
			resp, err := c.Do(newRequest(t, "GET", s.url+path, nil))
			if err == nil && resp.StatusCode == 200 { // else it was seen in time
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil {
					t.Errorf("%s: the answer seems whole", path)
				}
			}
		}
		big := bytes.NewReader(make([]byte, 3<<20))
		if resp, body := do(t, c, newRequest(t, "POST", s.url+"/early", big)); resp.StatusCode != 413 || body != "too large" {
			t.Errorf("an answer before the body: got %d %q", resp.StatusCode, body)
		}
		if resp, body := do(t, c, newRequest(t, "HEAD", s.url+"/head", nil)); resp.StatusCode != 200 || body != "" || resp.ContentLength != 5 {
			t.Errorf("HEAD: got %d %q length %d", resp.StatusCode, body, resp.ContentLength)
		}
		if resp, body := do(t, c, newRequest(t, "GET", s.url+"/none", nil)); resp.StatusCode != 204 || body != "" {
			t.Errorf("no content: got %d %q", resp.StatusCode, body)
		}
		req := newRequest(t, "GET", s.url+"/x", nil)
		req.Header.Set("X-Long", strings.Repeat("v", maxHeader))
		if resp, err := c.Do(req); err == nil { // HTTP/2 may refuse without an answer
			resp.Body.Close()
			if resp.StatusCode != 431 {
				t.Errorf("headers over the limit: got %d", resp.StatusCode)
			}
		}
	})
}

func TestWebSocketOverTLS(t *testing.T) {
	s := startTLS(t, echoUpgraded)
	c, err := tls.Dial("tcp", s.addr, s.config("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, strings.Replace(askUpgrade, "Host: x", "Host: acme.example.org", 1)+"early ")
	in := bufio.NewReader(c)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("got %v %v", resp, err)
	}
	io.WriteString(c, "late")
	c.CloseWrite()
	if all, err := io.ReadAll(in); string(all) != "early late" || err != nil {
		t.Fatalf("got %q %v", all, err)
	}
}

func TestRequestOverHTTP2ReachesAnotherHost(t *testing.T) {
	f := newFleet(t, "h2")
	f.place("h2", "acme.0", echo)
	s := startTLS(t, nil)
	peers, err := newPeerTLS("h1", *f.ca.peer("h1"), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	s.table.setDialer(peers.dial)
	setKnown(s.table, f.known)
	want := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	resp, got := do(t, s.client, newRequest(t, "POST", s.url+"/echo", bytes.NewReader(want)))
	if got != string(want) || resp.ProtoMajor != 2 {
		t.Errorf("got %d bytes of %d over HTTP/%d", len(got), len(want), resp.ProtoMajor)
	}
}

func TestCertificateIsReadAgainAndABadOneIsNot(t *testing.T) {
	ca := newAuthority(t)
	var said []error
	cert, key := ca.issue("site", "one.example.org")
	p, err := newPair(cert, key, func(err error) { said = append(said, err) })
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		p.looked = time.Time{} // a second has passed
		return p.current().Leaf.DNSNames[0]
	}
	ca.issue("site", "two.example.org")
	if got := name(); got != "two.example.org" {
		t.Errorf("after a change it is for %s", got)
	}
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := name(); got != "two.example.org" || len(said) != 1 {
			t.Errorf("after a bad one it is for %s, and %v was said", got, said)
		}
	}
	if os.Remove(cert); name() != "two.example.org" || len(said) != 2 {
		t.Errorf("without one, %v was said", said)
	}
	ca.issue("site", "three.example.org")
	if got := name(); got != "three.example.org" || len(said) != 2 {
		t.Errorf("mended, it is for %s, and %v was said", got, said)
	}
}

func TestConnectionsOutliveTheirCertificate(t *testing.T) {
	s := startTLS(t, says("ok"))
	do(t, s.client, newRequest(t, "GET", s.url+"/x", nil))
	s.ca.issue("site", "acme.example.org")
	serial := func(c *http.Client) string {
		resp, _ := do(t, c, newRequest(t, "GET", s.url+"/x", nil))
		return resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	s.proxy.certificate.mu.Lock()
	s.proxy.certificate.looked = time.Time{} // a second has passed
	s.proxy.certificate.mu.Unlock()
	if got := serial(s.speaking(t, "h2")); got != "acme.example.org" {
		t.Errorf("a new connection's certificate is for %s", got)
	}
	if got := serial(s.client); got != "example.org" {
		t.Errorf("the first connection was not kept: its certificate is for %s", got)
	}
}

func TestOptionsThatCannotBeServedAreRefused(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue("site", "example.org")
	for want, o := range map[string]Options{
		"either from files or from ACME": {Domain: "example.org", TLS: &CertificateFiles{cert, key}, ACME: &ACME{}},
		"without a domain":               {ACME: &ACME{}},
		"cannot read certificate":        {TLS: &CertificateFiles{cert, cert}},
		"h1.hosts.bulkhead":              {Peers: &PeerFiles{CA: ca.file, Cert: cert, Key: key}},
		"no certificate in PEM form":     {Peers: &PeerFiles{CA: key, Cert: ca.peer("h1").Cert, Key: ca.peer("h1").Key}},
	} {
		o.Host, o.Log = "h1", slog.New(slog.DiscardHandler)
		if _, err := New(NewTable("h1", o.Log), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something about %q", err, want)
		}
	}
}
