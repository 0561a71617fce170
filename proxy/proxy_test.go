package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

// logBuffer collects access records, and tells when one has come.
type logBuffer struct {
	mu  sync.Mutex
	b   bytes.Buffer
	got chan struct{}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.got <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

// text is what was logged so far.
func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// record waits for the first access record.
func (l *logBuffer) record(t *testing.T) map[string]any {
	t.Helper()
	<-l.got
	l.mu.Lock()
	defer l.mu.Unlock()
	var m map[string]any
	if err := json.NewDecoder(&l.b).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

type testProxy struct {
	addr  string
	url   string
	table *Table
	log   *logBuffer
	proxy *Proxy
}

// start runs a proxy in front of an instance of tenant acme that answers with
// serve.
func start(t *testing.T, serve func(*framestest.Exchange)) testProxy {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	table := NewTable("h1", log)
	if serve != nil {
		set(table, ready(framestest.Listen(t, serve)))
	}
	access := &logBuffer{got: make(chan struct{}, 100)}
	p, err := New(table, Options{Host: "h1", Hold: time.Minute, Access: access, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := p.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return testProxy{ln.Addr().String(), "http://" + ln.Addr().String(), table, access, p}
}

func ready(socket string) cluster.Instance {
	return cluster.Instance{Tenant: "acme", Instance: "acme.0", Host: "h1", Phase: cluster.Ready, Endpoint: socket}
}

func get(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
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

func newRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestRequestReachesTheInstanceAsTheClientSentIt(t *testing.T) {
	seen := make(chan map[string]string, 1)
	p := start(t, func(x *framestest.Exchange) {
		body, _ := io.ReadAll(x.Body)
		got := map[string]string{"method": string(x.Request.Method), "target": string(x.Request.Target), "body": string(body)}
		for name, value := range x.Request.Headers.All() {
			got[string(name)] = string(value)
		}
		for id, value := range x.Request.Fields.All() {
			got[fmt.Sprint("field ", id)] = string(value)
		}
		seen <- got
		x.Answer(201, map[string]string{"content-type": "text/x", "x-mine": "1", "connection": "close", "set-cookie": "a=b"}, "hi", true)
	})
	req := newRequest(t, "POST", p.url+"/acme/hello/a%20b?x=1&x=2", strings.NewReader("body"))
	req.Header.Set("X-Custom", "Ünïcode")
	req.Header.Set("X-Bulkhead-Tenant", "globex")
	req.Header.Set("X-Forwarded-For", "9.9.9.9")
	req.Header.Set("Connection", "X-Hop")
	req.Header.Set("X-Hop", "1")
	req.Header.Set("Te", "trailers")
	resp, body := get(t, req)
	got := <-seen
	for name, want := range map[string]string{
		"method": "POST", "target": "/acme/hello/a%20b?x=1&x=2", "body": "body", "x-custom": "Ünïcode",
		"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "content-length": "4",
		"field 2": "acme", "field 3": "hello", "field 5": "http", "field 6": p.addr, "field 7": "/acme/hello",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"x-bulkhead-tenant", "connection", "x-hop", "te"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s: %s went through", name, v)
		}
	}
	if resp.StatusCode != 201 || body != "hi" || resp.Header.Get("Content-Type") != "text/x" || resp.Header.Get("X-Mine") != "1" || resp.Header.Get("Set-Cookie") != "a=b" || resp.Close {
		t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
	}
	if id := resp.Header.Get("X-Request-Id"); id == "" || id != got["field 1"] {
		t.Errorf("request id %q in the answer, %q at the instance", id, got["field 1"])
	}
	rec := p.log.record(t)
	if rec["status"] != 201.0 || rec["tenant"] != "acme" || rec["path"] != "/acme/hello/a%20b" || rec["in"] != 4.0 || rec["out"] != 2.0 {
		t.Errorf("access record %v", rec)
	}
}

func TestBothBodiesStreamAtTheSameTime(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, nil, "", false)
		io.Copy(x, x.Body)
		x.End()
	})
	pr, pw := io.Pipe()
	resp, err := http.DefaultClient.Do(newRequest(t, "POST", p.url+"/acme/echo", pr))
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

func TestLargeBodiesArriveWhole(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, nil, "", false)
		io.Copy(x, x.Body)
		x.End()
	})
	want := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	for name, body := range map[string]io.Reader{"with content-length": bytes.NewReader(want), "chunked": io.MultiReader(bytes.NewReader(want))} {
		_, got := get(t, newRequest(t, "POST", p.url+"/acme/echo", body))
		if got != string(want) {
			t.Errorf("%s: got %d bytes, want %d, or they differ", name, len(got), len(want))
		}
	}
}

func TestClientThatHangsUpCancelsItsRequest(t *testing.T) {
	cancelled := make(chan error, 1)
	began := make(chan struct{})
	p := start(t, func(x *framestest.Exchange) {
		close(began)
		cancelled <- x.Wait()
	})
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /acme/slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	c.Close()
	if err := <-cancelled; err != framestest.ErrReset {
		t.Fatalf("got %v", err)
	}
	if rec := p.log.record(t); rec["status"] != 499.0 || rec["cause"] != "client_gone" {
		t.Errorf("access record %v", rec)
	}
}

func TestPlatformErrorsSayWhy(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		switch string(x.Request.Target) {
		case "/acme/reset":
			x.Reset(frames.CodeInternal, "it broke")
		case "/acme/gone":
			x.HangUp()
		case "/acme/short":
			x.Answer(200, map[string]string{"content-length": "10"}, "abc", true)
		}
	})
	tests := []struct {
		path, cause string
		status      int
	}{
		{"/nobody/hello", "tenant_unknown", 404},
		{"/acme", "function_unknown", 404},
		{"/acme/reset", "instance_reset", 502},
		{"/acme/gone", "instance_gone", 503},
		{"/acme/short", "bad_answer", 502},
	}
	for _, tt := range tests {
		resp, body := get(t, newRequest(t, "GET", p.url+tt.path, nil))
		var e struct {
			Code                   int
			Error, Message, Req_id string
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s: %q: %v", tt.path, body, err)
			continue
		}
		if resp.StatusCode != tt.status || e.Code != tt.status || e.Error != tt.cause || e.Message == "" || e.Req_id != resp.Header.Get("X-Request-Id") {
			t.Errorf("%s: got %d %+v", tt.path, resp.StatusCode, e)
		}
	}
}

func TestRequestGoesToAnotherConnectionWhenOneIsGoingAway(t *testing.T) {
	first := true
	p := start(t, func(x *framestest.Exchange) {
		if first {
			first = false
			x.GoAway()
		}
		x.Answer(200, nil, "ok", true)
	})
	for range 3 {
		resp, body := get(t, newRequest(t, "GET", p.url+"/acme/x", nil))
		if resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("got %d %s", resp.StatusCode, body)
		}
	}
}

func TestRequestWaitsForAnInstanceThatStarts(t *testing.T) {
	p := start(t, nil)
	socket := framestest.Listen(t, func(x *framestest.Exchange) { x.Answer(200, nil, "awake", true) })
	in := ready(socket)
	in.Phase = cluster.Starting
	set(p.table, in)
	got := make(chan string)
	go func() {
		_, body := get(t, newRequest(t, "GET", p.url+"/acme/x", nil))
		got <- body
	}()
	in.Phase = cluster.Ready
	set(p.table, in)
	if body := <-got; body != "awake" {
		t.Fatalf("got %s", body)
	}
}

// Each of these is one write on a connection of its own.
func TestBytesThatAreNoGoodRequestAreRefused(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		io.Copy(io.Discard, x.Body)
		x.Answer(200, nil, "reached", true)
	})
	tests := []struct {
		name, raw, want string
	}{
		{"not HTTP", "hello\r\n\r\n", "HTTP/1.1 400"},
		{"both content-length and transfer-encoding", "POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400"},
		{"two different content-lengths", "POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", "HTTP/1.1 400"},
		{"headers over the limit", "GET /acme/x HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", maxHeader) + "\r\n\r\n", "HTTP/1.1 431"},
		{"body that stops short", "POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, tt.raw)
			c.(*net.TCPConn).CloseWrite()
			answer, _ := io.ReadAll(c)
			if !strings.HasPrefix(string(answer), tt.want) || strings.Contains(string(answer), "reached") {
				t.Fatalf("got %.300q, want %s", answer, tt.want)
			}
		})
	}
}

func TestHeadHasNoBodyButItsLength(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, map[string]string{"content-length": "5"}, "", true)
	})
	resp, body := get(t, newRequest(t, "HEAD", p.url+"/acme/x", nil))
	if resp.StatusCode != 200 || body != "" || resp.ContentLength != 5 {
		t.Fatalf("got %d %q length %d", resp.StatusCode, body, resp.ContentLength)
	}
}
