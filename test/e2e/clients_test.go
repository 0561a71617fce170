package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// dial opens a connection to the proxy.
func (c *tenant) dial() (net.Conn, error) {
	return net.Dial("tcp", strings.TrimPrefix(c.m.proxy, "http://"))
}

// head is a request's, as bytes.
func (c *tenant) head(method, path string, lines ...string) string {
	return fmt.Sprintf("%s /%s/%s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n%s\r\n", method, c.name, path, c.token, strings.Join(append(lines, ""), "\r\n"))
}

// readNothing asks, reads the status only, and leaves while others are served.
func readNothing(c *tenant, function string) (g got) {
	conn, err := c.dial()
	if err != nil {
		return got{err: err}
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(c.head("GET", function+"/sin"))); err != nil {
		return got{err: err}
	}
	one := make([]byte, 12)
	if _, err := conn.Read(one); err != nil {
		return got{err: err}
	}
	// As long as others of the same process are served, nobody reads here.
	for range 20 {
		if g := c.get(function + "/quick"); !g.ok("quick") {
			return got{err: fmt.Errorf("while one does not read, another gets %v", g)}
		}
	}
	return got{status: 200, body: string(one)}
}

// sendSlowly sends a body's bytes one by one, while others are served.
func sendSlowly(c *tenant, function string) got {
	conn, err := c.dial()
	if err != nil {
		return got{err: err}
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(c.head("POST", function+"/sin", "content-length: 20"))); err != nil {
		return got{err: err}
	}
	for range 20 {
		if g := c.get(function + "/quick"); !g.ok("quick") {
			return got{err: fmt.Errorf("while one sends slowly, another gets %v", g)}
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			return got{err: err}
		}
	}
	answer := make([]byte, 1024)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := conn.Read(answer)
	return got{status: 200, body: string(answer[:n]), err: err}
}

// leaveEarly asks fifty times and does not wait for the answer.
func leaveEarly(c *tenant, function string) got {
	for range 50 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		res, err := callers.Do(c.request(ctx, http.MethodGet, function+"/sin", nil))
		cancel()
		if err == nil {
			res.Body.Close()
		} else if !errors.Is(err, context.DeadlineExceeded) {
			return got{err: err}
		}
	}
	return got{status: 200}
}
