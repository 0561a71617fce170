package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

// dial connects to the proxy and sends raw bytes.
func dial(t *testing.T, p testProxy, raw string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, raw)
	return c.(*net.TCPConn)
}

// answer reads one answer to a GET from c.
func answer(t *testing.T, c net.Conn) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestOversizedHeadsAreRefusedAndHarmNobody(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{})
	p := start(t, func(x *framestest.Exchange) {
		if string(x.Request.Target) == "/acme/victim" {
			close(began)
			<-release
		}
		x.Answer(200, nil, "ok", true)
	})
	victim := dial(t, p, "GET /acme/victim HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	tests := []struct {
		name, raw string
		status    int
		cause     string
	}{
		{"method whose length wraps to 3", strings.Repeat("G", 259) + " /acme/x HTTP/1.1\r\nHost: x\r\n\r\n", 501, "method_unknown"},
		{"method of 33 bytes", strings.Repeat("G", 33) + " /acme/x HTTP/1.1\r\nHost: x\r\n\r\n", 501, "method_unknown"},
		{"method of 32 bytes", strings.Repeat("G", 32) + " /acme/x HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
		{"method that is no token", "G{T /acme/x HTTP/1.1\r\nHost: x\r\n\r\n", 501, "method_unknown"},
		{"host that fills the buffer", "GET /acme/x HTTP/1.1\r\nHost:" + strings.Repeat("h", 32_600) + "\r\n\r\n", 400, "bad_request"},
		{"host of 1 KiB", "GET /acme/x HTTP/1.1\r\nHost:" + strings.Repeat("h", 1024) + "\r\n\r\n", 200, ""},
		{"target that fills the buffer", "GET /acme/x?" + strings.Repeat("q", 32_600) + " HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
		{"header that fills the buffer", "GET /acme/x HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("q", 32_600) + "\r\n\r\n", 200, ""},
	}
	for _, tt := range tests {
		resp, body := answer(t, dial(t, p, tt.raw))
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.cause) {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, resp.StatusCode, body, tt.status, tt.cause)
		}
	}
	close(release)
	if resp, body := answer(t, victim); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("the request beside them got %d %s", resp.StatusCode, body)
	}
}

// newContext is a context with a GET of target in it.
func newContext(target string) *fasthttp.RequestCtx {
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.SetMethod("GET")
	ctx.Request.SetRequestURI(target)
	ctx.Request.Header.SetHost("x")
	return ctx
}

func TestHeadThatWouldLeaveTheRunnerNoRoomIsRefused(t *testing.T) {
	var h head
	ctx := newContext("/acme/x?" + strings.Repeat("q", 30<<10))
	for range 30 {
		ctx.Request.Header.Add("X", strings.Repeat("v", 1<<10))
	}
	// A parsed request's headers are what AllInOrder yields.
	raw := ctx.Request.Header.Header()
	if err := ctx.Request.Header.Read(bufio.NewReaderSize(bytes.NewReader(raw), 128<<10)); err != nil {
		t.Fatal(err)
	}
	_, refusal := h.encode(ctx, &record{}, Route{Tenant: "acme", Function: "x"}, ctx.Request.Header.RequestURI(), []byte("x"))
	if refusal == nil || refusal.status != 431 {
		t.Fatalf("got %+v", refusal)
	}
}

func TestTargetsAreTakenAsTheyStand(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, nil, fmt.Sprintf("%s authority=%s host=%s", x.Request.Target, x.Request.Fields.Get(frames.FieldAuthority), x.Request.Headers.Get("host")), true)
	})
	for target, want := range map[string]string{
		"/-/healthz":                   "ok\n",
		"http://x/-/healthz":           "ok\n",
		"/acme/f/../../-/healthz":      "/acme/f/../../-/healthz authority=h host=h",
		"/acme/f?a=//x":                "/acme/f?a=//x authority=h host=h",
		"http://abs:80/acme/f/a?b=c":   "/acme/f/a?b=c authority=abs:80 host=abs:80",
		"HTTPS://abs/acme/f":           "/acme/f authority=abs host=abs",
		"http://user@abs/acme/f":       `"bad_target"`,
		"http:///acme/f":               `"bad_target"`,
		"ftp://abs/acme/f":             `"bad_target"`,
		"http://abs":                   `"tenant_unknown"`,
		"http://abs/%2e%2e/-/healthz/": `"tenant_unknown"`,
	} {
		_, body := answer(t, dial(t, p, "GET "+target+" HTTP/1.1\r\nHost: h\r\n\r\n"))
		if !strings.Contains(body, want) {
			t.Errorf("%s: got %s, want %s", target, body, want)
		}
	}
	if p.log.record(t); strings.Contains(p.log.b.String(), "user@") {
		t.Error("what stands before the host is in the log")
	}
}

func TestEveryConnectionHeaderIsHonoured(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		names := ""
		for name := range x.Request.Headers.All() {
			names += string(name) + " "
		}
		x.Answer(200, nil, names, true)
	})
	_, body := answer(t, dial(t, p, "GET /acme/x HTTP/1.1\r\nX-A: 1\r\nconnection: x-a, keep-alive\r\nHost: h\r\nConnection: X-B\r\nX-B: 2\r\nX-C: 3\r\n\r\n"))
	if body != "host x-c x-forwarded-for x-forwarded-proto " {
		t.Fatalf("passed on: %s", body)
	}
}

func TestAnswersBelow200AreRefused(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		status := 100
		fmt.Sscanf(string(x.Request.Target), "/acme/%d", &status)
		x.Answer(status, nil, "", true)
	})
	const asks = "Connection: upgrade\r\nUpgrade: websocket\r\n"
	for _, tt := range []struct {
		status  int
		version string
		headers string
	}{
		{100, "1.1", asks}, {103, "1.1", asks}, {199, "1.1", asks}, {101, "1.1", ""}, {101, "1.0", asks},
		{101, "1.1", "Upgrade: websocket\r\n"}, {101, "1.1", "Connection: upgrade\r\n"},
		{101, "1.1", asks + "Content-Length: 1\r\n"}, {101, "1.1", "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\n"},
	} {
		status := tt.status
		resp, body := answer(t, dial(t, p, fmt.Sprintf("GET /acme/%d HTTP/%s\r\nHost: x\r\n%s\r\nx", status, tt.version, tt.headers)))
		if resp.StatusCode != 502 || !strings.Contains(body, "bad_answer") {
			t.Errorf("%d became %d %s", status, resp.StatusCode, body)
		}
	}
}

func TestRefusedRequestIsOfferedAgain(t *testing.T) {
	tries := make(chan string, 10)
	serve := func(name string, refuses bool) string {
		return framestest.Listen(t, func(x *framestest.Exchange) {
			tries <- name
			body, _ := io.ReadAll(x.Body)
			if refuses {
				x.Reset(frames.CodeRefused, "draining")
				return
			}
			x.Answer(200, nil, "served "+string(body), true)
		})
	}
	p := start(t, nil)
	one, two := ready(serve("one", true)), ready(serve("two", false))
	two.Instance = "acme.1"
	set(p.table, one, two)
	resp, body := get(t, newRequest(t, "POST", p.url+"/acme/x", strings.NewReader("whole")))
	if resp.StatusCode != 200 || body != "served whole" {
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
	if rec := p.log.record(t); rec["tries"] != 2.0 || rec["instance"] != "acme.1" {
		t.Errorf("access record %v", rec)
	}
	for len(tries) > 0 {
		<-tries
	}
	p.proxy.opts.Hold = 0
	set(p.table) // forgets what it has seen
	set(p.table, one)
	resp, body = get(t, newRequest(t, "GET", p.url+"/acme/x", nil))
	if resp.StatusCode != 503 || !strings.Contains(body, "instance_unreachable") || resp.Header.Get("Retry-After") == "" || len(tries) != softLimit {
		t.Fatalf("where all refuse: got %d %s after %d tries", resp.StatusCode, body, len(tries))
	}
	// Its body can't be had twice.
	set(p.table)
	set(p.table, one)
	resp, _ = get(t, newRequest(t, "POST", p.url+"/acme/x", bytes.NewReader(make([]byte, inlineBody+1))))
	if resp.StatusCode != 503 || len(tries) != softLimit+1 {
		t.Fatalf("large body: got %d after %d tries", resp.StatusCode, len(tries)-softLimit)
	}
}

func TestBodyHasATimeOfItsOwn(t *testing.T) {
	ctx := newContext("/acme/x")
	if got := bodyTime(&ctx.Request.Header).ReadTimeout; got != 0 {
		t.Errorf("without a body: got %v, want the time for headers to stand", got)
	}
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.Header.SetContentLength(5)
	if got := bodyTime(&ctx.Request.Header).ReadTimeout; got != bodyStall {
		t.Errorf("with one: got %v, want %v", got, bodyStall)
	}
	p := start(t, nil)
	if get(t, newRequest(t, "GET", p.url+healthPath, nil)); p.proxy.server.HeaderReceived == nil {
		t.Error("the server does not ask")
	}
}

func TestCauseInTheLogIsAWord(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"wall_limit":             "wall_limit",
		"Evil\"\n{}é":            "_vil_____",
		strings.Repeat("a", 500): strings.Repeat("a", 64),
	} {
		if got := cause([]byte(in)); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
