package cell

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"bulkhead/images/node"
	"bulkhead/test/family"
)

// nodeBinary is the Node that the image holds, from the same cache.
func nodeBinary(tb testing.TB) string {
	tb.Helper()
	cache := os.Getenv("BULKHEAD_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			tb.Fatal(err)
		}
		cache = filepath.Join(base, "bulkhead", "image")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		tb.Fatal(err)
	}
	p, err := node.Fetch(context.Background(), cache, io.Discard)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// cellBinary builds bulkhead-cell once per test run.
var cellBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cell")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "cell")
	return out, buildCell(out, raceDetector)
})

// buildCell builds bulkhead-cell, with the race detector or static.
func buildCell(out string, race bool) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", fmt.Sprintf("-race=%v", race), "-o", out, "bulkhead/cmd/bulkhead-cell")
	if !race {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the cell: %w: %s", err, b)
	}
	return nil
}

// TestMain removes what cellBinary built.
func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := cellBinary(); err == nil {
		os.RemoveAll(filepath.Dir(p))
	}
	os.Exit(code)
}

// testCell is a cell process, outside a container, and a control connection.
type testCell struct {
	dir      string
	cmd      *exec.Cmd
	conn     net.Conn
	output   chan string         // lines that the cell prints
	lines    chan map[string]any // of the log
	seen     []map[string]any    // those that nobody has waited for yet
	events   chan Event          // exits
	verdicts chan Event
	mu       sync.Mutex
	nextID   int64
	reply    map[int64]chan Reply
}

// startTestCell runs the real binary; env adds to its environment.
func startTestCell(tb testing.TB, env ...string) *testCell {
	tb.Helper()
	return startTestCellIn(tb, tb.TempDir(), env...)
}

// startTestCellIn does so in a directory that may have been another's.
func startTestCellIn(tb testing.TB, dir string, env ...string) *testCell {
	tb.Helper()
	bin, err := cellBinary()
	if err != nil {
		tb.Fatalf("cannot build the cell: %v", err)
	}
	harness, err := filepath.Abs("../images/node/harness")
	if err != nil {
		tb.Fatal(err)
	}
	c := &testCell{dir: dir, output: make(chan string, 1000), lines: make(chan map[string]any, 1000), events: make(chan Event, 16), verdicts: make(chan Event, 16), reply: map[int64]chan Reply{}}
	c.cmd = exec.Command(bin)
	c.cmd.Env = append(append(os.Environ(), "BULKHEAD_CELL_DIR="+c.dir, "BULKHEAD_CELL_NODE="+nodeBinary(tb), "BULKHEAD_CELL_HARNESS="+harness, "BULKHEAD_CELL_USERS=one", "GORACE=halt_on_error=1"), env...)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.conn.Close(); family.End(c.cmd) })
	go c.readLog(out)
	c.dial(tb)
	return c
}

func (c *testCell) readLog(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		select {
		case c.output <- s.Text():
		default:
		}
	}
	close(c.output)
}

// take takes an event of the log.
func (c *testCell) take(line []byte) {
	var m map[string]any
	if json.Unmarshal(line, &m) != nil {
		m = map[string]any{"broken": string(line)}
	}
	select {
	case c.lines <- m:
	default:
	}
}

func (c *testCell) dial(tb testing.TB) {
	tb.Helper()
	waitFor(tb, func() bool {
		conn, err := net.Dial("unix", filepath.Join(c.dir, ControlSocket))
		c.conn = conn
		return err == nil
	})
	go func() {
		for s := bufio.NewScanner(c.conn); s.Scan(); {
			var e Event
			switch json.Unmarshal(s.Bytes(), &e); e.Event {
			case "":
			case "verdict":
				c.verdicts <- e
				continue
			case "log":
				c.take(s.Bytes())
				continue
			default:
				c.events <- e
				continue
			}
			var r Reply
			json.Unmarshal(s.Bytes(), &r)
			c.mu.Lock()
			ch := c.reply[r.ID]
			c.mu.Unlock()
			if ch != nil {
				ch <- r
			}
		}
	}()
	c.ask(tb, Request{Op: "logs"})
}

// ask sends a request and waits for its reply.
func (c *testCell) ask(tb testing.TB, req Request) Reply {
	tb.Helper()
	c.mu.Lock()
	c.nextID++
	req.ID = c.nextID
	ch := make(chan Reply, 1)
	c.reply[req.ID] = ch
	c.mu.Unlock()
	b, err := json.Marshal(req)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := c.conn.Write(append(b, '\n')); err != nil {
		tb.Fatal(err)
	}
	select {
	case r := <-ch:
		return r
	case <-time.After(20 * time.Second):
		tb.Fatalf("no reply to %s %s", req.Op, req.Function)
		return Reply{}
	}
}

func (c *testCell) mustServe(tb testing.TB, req Request) Reply {
	tb.Helper()
	req.Op = "serve"
	r := c.ask(tb, req)
	if r.Error != nil {
		tb.Fatalf("cannot serve: %v\n%s", r.Error, r.Error.Stack)
	}
	return r
}

// waitFor polls for what nothing announces: another process's first socket.
func waitFor(tb testing.TB, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatal("waited for 20 s in vain")
		}
	}
}

// readAnswer reads frames until the first RESPONSE that ends, and returns its
// payload.
func readAnswer(r io.Reader) (string, error) {
	br := bufio.NewReader(r)
	for {
		head := make([]byte, 12)
		if _, err := io.ReadFull(br, head); err != nil {
			return "", err
		}
		payload := make([]byte, binary.LittleEndian.Uint32(head))
		if _, err := io.ReadFull(br, payload); err != nil {
			return "", err
		}
		if head[4] == 3 && head[5] == 1 {
			return string(payload), nil
		}
	}
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2].Round(10 * time.Microsecond)
}

func worst(d []time.Duration) time.Duration { return slices.Max(d).Round(10 * time.Microsecond) }
