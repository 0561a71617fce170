package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/frames/framestest"
)

func TestWhoeverComesFindsAShareHoweverManyWantEverything(t *testing.T) {
	for greedy := 1; greedy <= 5; greedy++ {
		s := newShares(1200)
		for more := true; more; {
			more = false
			for i := range greedy {
				more = s.take(fmt.Sprint(i)) || more
			}
		}
		for i := range greedy {
			if got, want := s.has(fmt.Sprint(i)), 1200/(greedy+1); got < want-1 || got > want+1 {
				t.Errorf("one of %d who want everything has %d, want about %d", greedy, got, want)
			}
		}
		for n := range 1200 / (greedy + 1) / 2 {
			if !s.take("modest") {
				t.Fatalf("beside %d who want everything there are %d for another", greedy, n)
			}
		}
	}
}

func TestSharesAreGivenBackAndNobodyIsRemembered(t *testing.T) {
	s := newShares(4)
	for s.take("a") {
	}
	for s.has("a") > 0 {
		s.give("a")
	}
	if s.taken != 0 || len(s.of) != 0 {
		t.Errorf("%d are taken, by %v", s.taken, s.of)
	}
}

func TestClientIsHisAddressOrHisNetwork(t *testing.T) {
	for text, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64"} {
		if got := clientOf(&net.TCPAddr{IP: net.ParseIP(text), Port: 9}); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
	if got := clientOf(&net.UnixAddr{Name: "@"}); got != "" {
		t.Errorf("a unix socket's client is %q", got)
	}
}

func TestFloodOfATenantLeavesRoomForOthersAndIsToldSo(t *testing.T) {
	begun, end := make(chan struct{}, 8), make(chan struct{})
	p := start(t, func(x *framestest.Exchange) {
		if strings.HasPrefix(string(x.Request.Target), "/acme/hold") {
			begun <- struct{}{}
			<-end
		}
		x.Answer(200, nil, "ok", true)
	})
	p.proxy.inFlight.allow(4)
	here := p.table.tenants["acme"].choices[here][0].id.endpoint
	other := cluster.Instance{Tenant: "other", Instance: "other.0", Host: "h1", Phase: cluster.Ready, Endpoint: here}
	set(p.table, ready(here), other)
	held := make(chan *http.Response, 2)
	for range 2 { // two are left then
		go func() { resp, _ := get(t, newRequest(t, "GET", p.url+"/acme/hold", nil)); held <- resp }()
		<-begun
	}
	resp, body := get(t, newRequest(t, "GET", p.url+"/acme/x", nil))
	if resp.StatusCode != 503 || !strings.Contains(body, "host_busy") || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a third of the tenant's gets %d %s", resp.StatusCode, body)
	}
	if resp, body := get(t, newRequest(t, "GET", p.url+"/other/x", nil)); resp.StatusCode != 200 {
		t.Errorf("another's gets %d %s", resp.StatusCode, body)
	}
	close(end)
	for range 2 {
		if resp := <-held; resp.StatusCode != 200 {
			t.Errorf("one that was held gets %d", resp.StatusCode)
		}
	}
	if resp, body := get(t, newRequest(t, "GET", p.url+"/acme/x", nil)); resp.StatusCode != 200 {
		t.Errorf("when they are answered, the next gets %d %s", resp.StatusCode, body)
	}
}

func TestOneAddressCannotHaveAllConnectionsAndIsToldSo(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) { x.Answer(200, nil, "ok", true) })
	p.proxy.clients.allow(2)
	request := "GET /acme/x HTTP/1.1\r\nHost: x\r\n\r\n"
	first := dial(t, p, request)
	if resp, _ := answer(t, first); resp.StatusCode != 200 {
		t.Fatalf("the first gets %d", resp.StatusCode)
	}
	if resp, body := answer(t, dial(t, p, "")); resp.StatusCode != 503 || !strings.Contains(body, "too_many_connections") {
		t.Errorf("the second gets %d %s", resp.StatusCode, body)
	}
	first.Close()
	for p.proxy.clients.has("127.0.0.1") > 0 {
		if t.Context().Err() != nil {
			t.Fatal("its place is not given back")
		}
	}
	if resp, _ := answer(t, dial(t, p, request)); resp.StatusCode != 200 {
		t.Errorf("when it has gone, the next gets %d", resp.StatusCode)
	}
}

// allow has so many there be in all from now on.
func (s *shares) allow(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = most
}
