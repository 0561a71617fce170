package cell

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bulkhead/internal/frames"
)

// connect gives a frames client of a process, as the runner has one.
func (c *testCell) connect(tb testing.TB, socket string) *frames.Client {
	tb.Helper()
	conn, err := net.Dial("unix", filepath.Join(c.dir, socket))
	if err != nil {
		tb.Fatal(err)
	}
	client := frames.NewClient(conn, "runner")
	tb.Cleanup(client.Close)
	return client
}

func post(target string, body []byte) frames.Request {
	return frames.Request{Fields: frames.NoFields, Method: []byte("POST"), Target: []byte(target), Headers: frames.AppendHeaderCount(nil), Body: body}
}

// Bodies of every size pass through a real function process and back, both
// ways at once, under the Go side's own flow control.
func TestBodiesThroughGoFrames(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "echo", Version: "v1", File: "f.js", Code: `module.exports = (ctx, req, res) => req.pipe(res)`})
	client := c.connect(t, r.Socket)
	for _, size := range []int{0, 1, 65536, 262144, 262145, 5_000_000} {
		body := make([]byte, size)
		rand.Read(body)
		s, err := client.Open(post("/", nil), false)
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- sendAll(t, s, body) }()
		got, err := readAll(t, s)
		if err == nil {
			err = <-sent
		}
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back as %d: %v", size, len(got), err)
		}
		s.Close()
	}
}

func sendAll(t *testing.T, s *frames.Stream, body []byte) error {
	for len(body) > 40_000 {
		if err := s.Write(t.Context(), body[:40_000], false); err != nil {
			return err
		}
		body = body[40_000:]
	}
	return s.Write(t.Context(), body, true)
}

func readAll(t *testing.T, s *frames.Stream) ([]byte, error) {
	resp, err := s.Response(t.Context())
	if err != nil {
		return nil, err
	}
	if resp.Status != 200 {
		return nil, fmt.Errorf("status %d", resp.Status)
	}
	var all []byte
	for {
		chunk, err := s.Next(t.Context())
		all = append(all, chunk...)
		if err != nil || chunk == nil {
			return all, err
		}
	}
}

// Many requests at once on one connection each get their own answer.
func TestManyAtOnceThroughGoFrames(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "many", Version: "v1", File: "f.js", Code: `module.exports = (ctx, cb) => setTimeout(() => cb(null, ctx.query.n + ctx.body_raw), Math.random() * 20)`})
	client := c.connect(t, r.Socket)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			want := fmt.Sprintf(`"%dbody%d"`, i, i)
			req := post(fmt.Sprintf("/?n=%d", i), fmt.Appendf(nil, "body%d", i))
			req.Headers = frames.AppendHeaderLine(req.Headers, 0, []byte("content-type"), []byte("text/plain"))
			status, body, err := client.Do(t.Context(), req, 1<<20)
			if err != nil || status != 200 || string(body) != want {
				t.Errorf("request %d: %d %q %v, want %q", i, status, body, err, want)
			}
		})
	}
	wg.Wait()
}

// A process that dies breaks off what is in flight, and at once the inquest
// can say why: whoever sees the connection end need not ask twice.
func TestInquestRightAfterDeath(t *testing.T) {
	c := startTestCell(t)
	for i := range 5 {
		r := c.mustServe(t, Request{Function: "dying", Version: fmt.Sprint(i), File: "f.js", Code: `module.exports = (cb) => console.log('in')`})
		client := c.connect(t, r.Socket)
		ended := make(chan error, 1)
		go func() { _, _, err := client.Do(t.Context(), post("/", nil), 1<<20); ended <- err }()
		c.waitLog(t, func(m map[string]any) bool { return m["message"] == "in" })
		syscall.Kill(r.PID, syscall.SIGKILL)
		if <-ended == nil {
			t.Error("a killed process answered")
		}
		if x := c.ask(t, Request{Op: "inquest", Socket: r.Socket}).Exit; x == nil || !strings.Contains(x.Reason, "SIGKILL") {
			t.Errorf("the inquest says %+v", x)
		}
	}
}
