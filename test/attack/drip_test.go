package attack

import (
	"io"
	"testing"
	"time"
)

// drips are how many connections send a byte of a header now and then.
const drips = 200

// drip begins a slow loris, which goes on while other attacks are made. The
// function it returns waits for its end.
func (s *site) drip(t *testing.T) func(*testing.T) row {
	t.Helper()
	ended := make(chan string, drips)
	for range drips {
		c := s.dial(t)
		go func() {
			io.WriteString(c, "GET /acme/echo/x HTTP/1.1\r\nHost: x\r\nX: ")
			often := time.NewTicker(100 * time.Millisecond)
			defer often.Stop()
			for range often.C {
				if _, err := io.WriteString(c, "a"); err != nil {
					return
				}
			}
		}()
		go func() { ended <- outcome(readAll(t, c, "GET"), false) }()
	}
	return func(t *testing.T) row {
		t.Helper()
		const want = "408 request_timeout; closed"
		for range drips {
			if got := <-ended; got != want {
				t.Errorf("a slow loris gets %q, want %q", got, want)
			}
		}
		s.unharmed(t)
		return row{"slow loris: 200 connections whose header grows by a byte each 100 ms", want}
	}
}
