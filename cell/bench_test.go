package cell

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a function process does for a request is compared with a bare node:http
// server that does the same work on a unix socket: same Node, same machine, 16
// requests in flight. ns/op is what a client sees; node-µs/op is the CPU time
// that the Node process spent on a request, which a slow client can't hide.
//
//	go test ./cell -run '^$' -bench Throughput -benchtime 3s

const inFlight = 16

var models = map[string]string{
	"cb":    `module.exports = (ctx, cb) => cb(null, { hello: ctx.query.name });`,
	"http":  `module.exports = (ctx, req, res) => { const q = new URLSearchParams(req.url.slice(req.url.indexOf('?') + 1)); const b = JSON.stringify({ hello: q.get('name') }); res.writeHead(200, { 'content-type': 'application/json', 'content-length': b.length }); res.end(b); };`,
	"fetch": `export default { fetch(request) { const q = new URL(request.url).searchParams; return Response.json({ hello: q.get('name') }); } };`,
	"async": `module.exports = async (ctx) => ({ hello: ctx.query.name });`,
}

const bare = `const http = require('http');
http.createServer((req, res) => { const q = new URLSearchParams(req.url.slice(req.url.indexOf('?') + 1)); const b = JSON.stringify({ hello: q.get('name') }); res.writeHead(200, { 'content-type': 'application/json', 'content-length': b.length }); res.end(b); }).listen(process.argv[2]);`

func BenchmarkThroughput(b *testing.B) {
	for _, name := range []string{"cb", "async", "http", "fetch"} {
		b.Run("frames/"+name, func(b *testing.B) {
			c := startTestCell(b)
			s := c.mustServe(b, Request{Function: "bench", Version: "v1", File: fileFor(name), Code: models[name]})
			benchFrames(b, filepath.Join(c.dir, s.Socket), s.PID)
		})
	}
	b.Run("bare-http", func(b *testing.B) {
		dir := b.TempDir()
		script, sock := filepath.Join(dir, "bare.js"), filepath.Join(dir, "s")
		if err := os.WriteFile(script, []byte(bare), 0o600); err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(nodeBinary(b), script, sock)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		waitFor(b, func() bool {
			c, err := net.Dial("unix", sock)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		benchHTTP(b, sock, cmd.Process.Pid)
	})
}

func fileFor(model string) string {
	if model == "fetch" {
		return "f.mjs"
	}
	return "f.js"
}

// requestFrame is a REQUEST as a runner sends it, with room for the stream id.
func requestFrame() []byte {
	p := []byte{3}
	field := func(id byte, v string) {
		p = append(p, id)
		p = binary.LittleEndian.AppendUint16(p, uint16(len(v)))
		p = append(p, v...)
	}
	field(1, "01JD8XGZ0000000000000000AB")
	field(6, "localhost:8080")
	field(7, "/acme/hello")
	target := "/acme/hello?name=world"
	p = append(p, 3)
	p = append(p, "GET"...)
	p = binary.LittleEndian.AppendUint16(p, uint16(len(target)))
	p = append(p, target...)
	headers := [][2]string{{"accept", "*/*"}, {"user-agent", "wrk/4"}, {"x-forwarded-for", "192.0.2.1"}}
	p = binary.LittleEndian.AppendUint16(p, uint16(len(headers)))
	for _, h := range headers {
		p = append(append(p, byte(len(h[0]))), h[0]...)
		p = binary.LittleEndian.AppendUint16(p, uint16(len(h[1])))
		p = append(p, h[1]...)
	}
	return append(frameHead(len(p), 2, 1, 0), p...)
}

func frameHead(length int, kind, flags byte, stream uint32) []byte {
	h := binary.LittleEndian.AppendUint32(nil, uint32(length))
	h = append(h, kind, flags, 0, 0)
	return binary.LittleEndian.AppendUint32(h, stream)
}

// benchFrames keeps inFlight requests going on one connection, as a runner does.
func benchFrames(b *testing.B, sock string, pid int) {
	c, err := net.Dial("unix", sock)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	hello := append(frameHead(10, 1, 0, 0), "BHF\x01runner"...)
	req, id := requestFrame(), uint32(0)
	next := func(out []byte) []byte {
		id++
		binary.LittleEndian.PutUint32(req[8:], id)
		return append(out, req...)
	}
	out := hello
	r := bufio.NewReaderSize(c, 64<<10)
	run := func(n int) {
		sent, got := 0, 0
		for ; sent < min(n, inFlight); sent++ {
			out = next(out)
		}
		for got < n {
			if _, err := c.Write(out); err != nil {
				b.Fatal(err)
			}
			out = out[:0]
			for first := true; first || r.Buffered() >= 12; first = false {
				head, err := r.Peek(12)
				if err != nil {
					b.Fatal(err)
				}
				kind, size := head[4], 12+int(binary.LittleEndian.Uint32(head))
				if kind == 3 {
					whole, err := r.Peek(size)
					if err != nil || !bytes.HasSuffix(whole, []byte(`{"hello":"world"}`)) {
						b.Fatalf("wrong answer: %q %v", whole, err)
					}
					got++
					if sent < n {
						out = next(out)
						sent++
					}
				}
				r.Discard(size)
			}
		}
	}
	run(20_000)
	measure(b, pid, func() { run(b.N) })
}

// benchHTTP keeps inFlight keep-alive connections busy.
func benchHTTP(b *testing.B, sock string, pid int) {
	req := []byte("GET /acme/hello?name=world HTTP/1.1\r\nhost: localhost:8080\r\naccept: */*\r\nuser-agent: wrk/4\r\nx-forwarded-for: 192.0.2.1\r\n\r\n")
	type client struct {
		c net.Conn
		r *bufio.Reader
	}
	var clients []client
	for range inFlight {
		c, err := net.Dial("unix", sock)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, client{c, bufio.NewReader(c)})
	}
	run := func(n int) {
		done := make(chan error, inFlight)
		for i, k := range clients {
			share := n / inFlight
			if i < n%inFlight {
				share++
			}
			go func() {
				for range share {
					if _, err := k.c.Write(req); err != nil {
						done <- err
						return
					}
					if err := readHTTP(k.r); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range clients {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	run(20_000)
	measure(b, pid, func() { run(b.N) })
}

// readHTTP reads one response, with no more effort than a benchmark needs.
func readHTTP(r *bufio.Reader) error {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("content-length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	}
	body, err := r.Peek(length)
	if err != nil || !bytes.Equal(body, []byte(`{"hello":"world"}`)) {
		return fmt.Errorf("wrong answer: %q: %w", body, io.ErrUnexpectedEOF)
	}
	_, err = r.Discard(length)
	return err
}

// measure runs the benchmark proper and reports Node's CPU time per request.
func measure(b *testing.B, pid int, run func()) {
	before := cpuTime(b, pid)
	b.ResetTimer()
	run()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b, pid)-before).Microseconds())/float64(b.N), "node-µs/op")
}

// cpuTime is what a process has used so far, by /proc/<pid>/stat.
func cpuTime(tb testing.TB, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
	user, _ := strconv.Atoi(f[12])
	system, _ := strconv.Atoi(f[13])
	return time.Duration(user+system) * 10 * time.Millisecond
}
