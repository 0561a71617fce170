package attack

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a connection may be silent before a test gives up: it
// is no part of what is tested.
const patience = 30 * time.Second

// watchLog is an access log, and looks in it for requests that only a smuggler
// could have sent.
type watchLog struct {
	mu  sync.Mutex
	hit []byte
}

// Write takes records.
func (l *watchLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(p) {
		if bytes.Contains(line, []byte("/smuggled")) && l.hit == nil {
			l.hit = bytes.Clone(line)
		}
	}
	return len(p), nil
}

func (l *watchLog) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hit != nil {
		t.Errorf("a request was taken for one that was smuggled in another: %s", l.hit)
	}
}

// said is one answer as it came.
type said struct {
	status int
	cause  string // the platform's error word
	body   string
	header http.Header
	broken bool // it ended early
}

func (a said) String() string {
	s := fmt.Sprint(a.status)
	if a.cause != "" {
		s += " " + a.cause
	}
	if a.broken {
		s += " broken off"
	}
	return s
}

func (s *site) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.http)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// exchange writes raw bytes on a connection of their own and reads answers
// until the proxy closes it. Of HEAD's answers no body is read.
func (s *site) exchange(t *testing.T, raw string, half bool) (all []said) {
	t.Helper()
	c := s.dial(t)
	go func() {
		io.WriteString(c, raw) // which fails when the proxy has heard enough
		if half {
			c.(*net.TCPConn).CloseWrite()
		}
	}()
	return readAll(t, c, strings.Fields(raw + " -")[0])
}

func readAll(t *testing.T, c net.Conn, method string) (all []said) {
	t.Helper()
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		if _, err := r.Peek(1); err != nil {
			if n, ok := err.(net.Error); ok && n.Timeout() {
				t.Fatalf("after %v the connection is neither answered nor closed", all)
			}
			return all
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("after %v come bytes that are no answer: %v", all, err)
		}
		if resp.StatusCode == 100 {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		a := said{status: resp.StatusCode, body: string(body), header: resp.Header, broken: err != nil}
		var e struct{ Error, Req_id string }
		if json.Unmarshal(body, &e) == nil && e.Req_id != "" {
			a.cause = e.Error
		}
		all = append(all, a)
		method = "GET"
	}
}

// outcome puts what came back into words. With behind, the last answer may be
// that of the neighbour's request, which was sent right behind the attack.
func outcome(all []said, behind bool) string {
	next := behind && len(all) > 0 && all[len(all)-1].body == neighbourSays
	if next {
		all = all[:len(all)-1]
	}
	var words []string
	for i := 0; i < len(all); {
		n := 1
		for i+n < len(all) && all[i+n].String() == all[i].String() {
			n++
		}
		word := all[i].String()
		if n > 1 {
			word = fmt.Sprintf("%d times %s", n, word)
		}
		words, i = append(words, word), i+n
	}
	text := strings.Join(words, ", then ")
	if text == "" {
		text = "no answer"
	}
	if next {
		return text + "; the request behind it is answered"
	}
	return text + "; closed"
}

// neighbour's request, as it follows an attack on its connection or stands on
// its own.
func (s *site) neighbour() string {
	return "GET /globex/hi HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + s.keys.globex + "\r\n\r\n"
}

// unharmed fails unless a neighbour is answered on a connection of his own.
func (s *site) unharmed(t *testing.T) {
	t.Helper()
	all := s.exchange(t, s.neighbour(), false)
	if len(all) != 1 || all[0].status != 200 || all[0].body != neighbourSays {
		t.Errorf("a neighbour on another connection gets %v", all)
	}
}
