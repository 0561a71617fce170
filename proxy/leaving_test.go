package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead/internal/frames/framestest"
)

// begin sends raw and waits for the head of its answer.
func begin(t *testing.T, p testProxy, raw string) (*net.TCPConn, *http.Response) {
	t.Helper()
	c := dial(t, p, raw)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, resp
}

// The function says nothing more, so only its socket tells of the client.
func TestClientThatLeavesAnAnswerIsNoticed(t *testing.T) {
	for name, body := range map[string]string{
		"with nothing sent":             "",
		"with its upload not yet taken": strings.Repeat("z", 900_000),
	} {
		t.Run(name, func(t *testing.T) {
			cancelled := make(chan error, 1)
			p := start(t, func(x *framestest.Exchange) {
				x.Answer(200, nil, "some", false)
				cancelled <- x.Wait()
			})
			c := dial(t, p, fmt.Sprintf("POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body)))
			go io.WriteString(c, body)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Header.Get("X-Request-Id") == "" {
				t.Error("no request id on a streamed answer")
			}
			c.SetLinger(0) // what it has not sent would keep back a FIN
			c.Close()
			if err := <-cancelled; err != framestest.ErrReset {
				t.Fatalf("the function got %v", err)
			}
			if rec := p.log.record(t); rec["cause"] != "client_gone" || rec["status"] != 200.0 {
				t.Errorf("access record %v", rec)
			}
		})
	}
}

func TestClientThatLeavesWhileItsAnswerIsWrittenIsNoticed(t *testing.T) {
	ended := make(chan error, 1)
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, nil, "", false)
		for err := error(nil); ; {
			if _, err = x.Write(make([]byte, 32<<10)); err != nil {
				ended <- err
				return
			}
		}
	})
	c, _ := begin(t, p, "POST /acme/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	c.SetLinger(0)
	c.Close()
	if err := <-ended; err != framestest.ErrReset {
		t.Fatalf("the function got %v", err)
	}
	if rec := p.log.record(t); rec["cause"] != "client_gone" {
		t.Errorf("access record %v", rec)
	}
}

func TestAnswerThatIsWholeEndsTheUpload(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, nil, "first ", false)
		io.WriteString(x, "last")
		x.End()
	})
	// The body never ends, and stops coming.
	_, body := answer(t, dial(t, p, "POST /acme/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"))
	if body != "first last" {
		t.Fatalf("got %q", body)
	}
	if rec := p.log.record(t); rec["status"] != 200.0 || rec["cause"] != nil {
		t.Errorf("access record %v", rec)
	}
}

func TestAnswerArrivesWholeAlthoughTheUploadIsCutOff(t *testing.T) {
	answer, upload := strings.Repeat("a", 120_000), strings.Repeat("u", 4<<20)
	p := start(t, func(x *framestest.Exchange) { x.Answer(200, nil, answer, true) })
	for range 20 {
		c := dial(t, p, fmt.Sprintf("POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(upload)))
		sent := make(chan struct{})
		go func() { defer close(sent); io.WriteString(c, upload) }()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != answer {
			t.Fatalf("%d of %d bytes of the answer came, and then: %v", len(body), len(answer), err)
		}
		c.Close()
		<-sent
	}
}

func TestPiecesOfAnAnswerArriveAsTheyAreSent(t *testing.T) {
	for name, headers := range map[string]map[string]string{
		"of a length that is known":   {"content-length": "11"},
		"of a length that is unknown": nil,
	} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan struct{})
			p := start(t, func(x *framestest.Exchange) {
				x.Answer(200, headers, "first ", false)
				<-seen
				io.WriteString(x, "last!")
				x.End()
			})
			_, resp := begin(t, p, "GET /acme/x HTTP/1.1\r\nHost: x\r\n\r\n")
			first := make([]byte, 6)
			if _, err := io.ReadFull(resp.Body, first); err != nil {
				t.Fatal(err)
			}
			close(seen)
			if rest, err := io.ReadAll(resp.Body); err != nil || string(first)+string(rest) != "first last!" {
				t.Fatalf("got %q, then %q and %v", first, rest, err)
			}
		})
	}
}

func TestAnswerThatBreaksOffIsLoggedAsSuch(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, nil, "some", false)
		x.Reset(5, "it broke")
	})
	_, resp := begin(t, p, "GET /acme/x HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client got %v", err)
	}
	if rec := p.log.record(t); rec["cause"] != "answer_broken_off" {
		t.Errorf("access record %v", rec)
	}
}

func TestClientThatIsGoneGetsNoAnswer(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) { x.Wait() })
	c := dial(t, p, "GET /acme/x HTTP/1.1\r\nHost: x\r\n\r\n")
	c.CloseWrite()
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if rec := p.log.record(t); rec["status"] != 499.0 || rec["cause"] != "client_gone" {
		t.Errorf("access record %v", rec)
	}
}

func TestBodiesThatGoWrongAreTheClientsFault(t *testing.T) {
	whole := make(chan bool, 1)
	p := start(t, func(x *framestest.Exchange) {
		_, err := io.Copy(io.Discard, x.Body)
		whole <- err == nil
		x.Answer(200, nil, "reached", true)
	})
	chunked := "POST /acme/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct {
		name, raw string
		leaves    bool
		want      string
	}{
		{"chunk size that is no number", chunked + "ZZ\r\nhello\r\n0\r\n\r\n", false, "HTTP/1.1 400"},
		{"chunk longer than its size", chunked + "2\r\nhello\r\n0\r\n\r\n", false, "HTTP/1.1 400"},
		{"no last chunk", chunked + "5\r\nhello\r\n", true, "HTTP/1.1 408"},
		{"end within a chunk", chunked + "5\r\nhe", true, "HTTP/1.1 408"},
		{"less than the large content-length", "POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("z", 40_000), true, "HTTP/1.1 408"},
	} {
		c := dial(t, p, tt.raw)
		if tt.leaves {
			c.CloseWrite()
		}
		got, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(got), tt.want) {
			t.Errorf("%s: got %.300q, want %s", tt.name, got, tt.want)
		}
		if <-whole {
			t.Errorf("%s: the function took the body for whole", tt.name)
		}
	}
}

func TestHTTP10ClientsGetNoChunks(t *testing.T) {
	began := make(chan struct{})
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(200, map[string]string{"content-type": "text/x"}, "first ", false)
		<-began
		io.WriteString(x, "last")
		x.End()
	})
	for name, header := range map[string]string{"alone": "", "asking to keep alive": "Connection: keep-alive\r\n"} {
		c := bufio.NewReader(dial(t, p, "GET /acme/x HTTP/1.0\r\nHost: x\r\n"+header+"\r\n"))
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := c.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			head += line
		}
		began <- struct{}{} // the head and what there is come at once
		body, err := io.ReadAll(c)
		if err != nil || string(body) != "first last" || strings.Contains(head, "chunked") || !strings.Contains(head, "Connection: close") || !strings.Contains(head, "text/x") || !strings.Contains(head, "X-Request-Id") {
			t.Errorf("%s: got %q %q %v", name, head, body, err)
		}
	}
	if rec := p.log.record(t); rec["status"] != 200.0 || rec["out"] != 10.0 || rec["cause"] != nil {
		t.Errorf("access record %v", rec)
	}
}

func TestRefusalArrivesAlthoughTheBodyIsNotWanted(t *testing.T) {
	p := start(t, says("ok"))
	upload := strings.Repeat("u", 4<<20)
	for range 10 {
		req := newRequest(t, "POST", p.url+"/nobody/x", strings.NewReader(upload))
		if resp, body := get(t, req); resp.StatusCode != 404 || !strings.Contains(body, "tenant_unknown") {
			t.Fatalf("got %d %s", resp.StatusCode, body)
		}
	}
}

// A client may have sent a request on an idle connection before it sees the
// connection's end, and doesn't know then whether it was begun.
func TestIdleConnectionsHaveALastRequest(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) { x.Answer(200, nil, "ok", true) })
	p.proxy.opts.Idle = time.Minute
	const request = "POST /acme/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
	c := dial(t, p, request)
	r := bufio.NewReader(c)
	read := func() *http.Response {
		t.Helper()
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		return resp
	}
	if resp := read(); resp.StatusCode != 200 || resp.Close {
		t.Fatalf("got %d, closes: %v", resp.StatusCode, resp.Close)
	}
	p.proxy.close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.proxy.idle(t.Context())
	}()
	io.WriteString(c, request)
	if resp := read(); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("the last got %d, closes: %v", resp.StatusCode, resp.Close)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after it: %v", err)
	}
	<-ended // and not after a minute: the test has none
}
