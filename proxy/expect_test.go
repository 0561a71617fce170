package proxy

import (
	"bufio"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/internal/frames/framestest"
)

func TestBodyIsAskedForOnceTheRequestIsLetIn(t *testing.T) {
	release := make(chan struct{})
	p := start(t, func(x *framestest.Exchange) {
		switch {
		case strings.HasSuffix(string(x.Request.Target), "refused"):
			x.Answer(401, nil, "no", true)
			return
		case strings.HasSuffix(string(x.Request.Target), "gone"):
			x.Window(0)
			<-release
			x.Wait()
			close(release)
			return
		}
		if string(x.Request.Headers.Get("expect")) != "100-continue" {
			t.Errorf("expect: %q", x.Request.Headers.Get("expect"))
		}
		x.Window(0)
		body, _ := io.ReadAll(x.Body)
		x.Answer(200, nil, string(body), true)
	})
	const head = " HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"

	c := dial(t, p, "POST /acme/x"+head)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 100 {
		t.Fatalf("got %v %v, want 100", resp, err)
	}
	io.WriteString(c, "body")
	if resp, err = http.ReadResponse(in, nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v %v", resp, err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "body" {
		t.Fatalf("got %q", body)
	}
	if rec := p.log.record(t); rec["status"] != 200.0 || rec["in"] != 4.0 {
		t.Errorf("access record %v", rec)
	}

	resp, body := answer(t, dial(t, p, "POST /acme/refused"+head))
	if resp.StatusCode != 401 || body != "no" || !resp.Close {
		t.Fatalf("refused: got %d %q close=%v", resp.StatusCode, body, resp.Close)
	}
	p.log.record(t)

	c = dial(t, p, "POST /acme/gone"+head)
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 100 {
		t.Fatalf("got %v %v, want 100", resp, err)
	}
	c.Close()
	release <- struct{}{}
	<-release // the function has heard
	if rec := p.log.record(t); rec["cause"] == nil {
		t.Errorf("access record %v", rec)
	}
}

func TestCurlKeepsARefusedBodyToItself(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	p := start(t, func(x *framestest.Exchange) {
		if string(x.Request.Headers.Get("content-length")) == "3000000" {
			x.Answer(413, nil, "too large", true)
			return
		}
		x.Window(0)
		n, _ := io.Copy(io.Discard, x.Body)
		x.Answer(200, nil, strings.Repeat("x", int(n/1000)), true)
	})
	for size, want := range map[int]string{2_000_000: "200 2000000 2000", 3_000_000: "413 0 9"} {
		cmd := exec.Command(curl, "-s", "-o", "/dev/null", "-w", "%{http_code} %{size_upload} %{size_download}", "--data-binary", "@-", p.url+"/acme/x")
		cmd.Stdin = strings.NewReader(strings.Repeat("z", size))
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%d bytes: got %s %v, want %s", size, out, err, want)
		}
	}
	out, err := exec.Command(curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X: "+strings.Repeat("h", 100_000), p.url+"/acme/x").Output()
	if err != nil || string(out) != "431" {
		t.Errorf("100 KB of headers: got %s %v", out, err)
	}
}

func TestMebibyteOfHeadersIsRefused(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) { x.Answer(200, nil, "", true) })
	c := dial(t, p, "GET /acme/x HTTP/1.1\r\nHost: x\r\n")
	go io.WriteString(c, strings.Repeat("X-Header: "+strings.Repeat("v", 1000)+"\r\n", 1040)+"\r\n")
	resp, body := answer(t, c)
	if resp.StatusCode != 431 || !strings.Contains(body, "headers_too_large") {
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
}
