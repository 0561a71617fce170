package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"bulkhead/internal/frames/framestest"
)

const askUpgrade = "GET /acme/x HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: raw\r\n\r\n"

// switched asks for an upgrade, with bytes of the new protocol right behind.
func switched(t *testing.T, p testProxy, early string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c := dial(t, p, askUpgrade+early)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "raw" || resp.Header.Get("Connection") != "Upgrade" || resp.Header.Get("X-Mine") != "1" {
		t.Fatalf("got %+v %v", resp, err)
	}
	return c, in
}

func echoUpgraded(x *framestest.Exchange) {
	x.Answer(101, map[string]string{"upgrade": string(x.Request.Headers.Get("upgrade")), "x-mine": "1"}, "", false)
	io.Copy(x, x.Body)
	x.End()
}

func TestUpgradedConnectionIsRawBytesUntilBothHaveEnded(t *testing.T) {
	p := start(t, echoUpgraded)
	c, in := switched(t, p, "early ")
	io.WriteString(c, "late")
	c.CloseWrite()
	if all, err := io.ReadAll(in); string(all) != "early late" || err != nil {
		t.Fatalf("got %q %v", all, err)
	}
	if rec := p.log.record(t); rec["status"] != 101.0 || rec["in"] != 10.0 || rec["out"] != 10.0 || rec["cause"] != nil {
		t.Errorf("access record %v", rec)
	}
}

func TestClientThatLeavesAnUpgradedConnectionIsNoticed(t *testing.T) {
	cancelled := make(chan error, 1)
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(101, map[string]string{"upgrade": "raw", "x-mine": "1"}, "", false)
		cancelled <- x.Wait()
	})
	c, _ := switched(t, p, "")
	c.SetLinger(0)
	c.Close()
	if err := <-cancelled; err != framestest.ErrReset {
		t.Fatalf("the function got %v", err)
	}
	if rec := p.log.record(t); rec["status"] != 101.0 || rec["cause"] != "client_gone" {
		t.Errorf("access record %v", rec)
	}
}

func TestFunctionThatGivesAnUpgradedConnectionUpClosesIt(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		x.Answer(101, map[string]string{"upgrade": "raw", "x-mine": "1"}, "", false)
		x.Reset(5, "over")
	})
	_, in := switched(t, p, "")
	if all, _ := io.ReadAll(in); len(all) > 0 {
		t.Fatalf("got %q", all)
	}
	if rec := p.log.record(t); rec["cause"] != "answer_broken_off" {
		t.Errorf("access record %v", rec)
	}
}

func TestShutdownEndsUpgradedConnections(t *testing.T) {
	p := start(t, echoUpgraded)
	_, in := switched(t, p, "")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	p.proxy.tunnels.drain(ctx) // as Shutdown does, which the test's end calls
	if all, _ := io.ReadAll(in); len(all) > 0 {
		t.Fatalf("got %q", all)
	}
}
