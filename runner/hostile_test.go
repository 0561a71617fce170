package runner

import (
	"errors"
	"strings"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
)

// raw is tenant code that writes frames of its own to the runner.
const raw = `
const frame = (type, end, stream, payload) => {
  const b = Buffer.alloc(12 + payload.length);
  b.writeUInt32LE(payload.length, 0); b[4] = type; b[5] = end; b.writeUInt32LE(stream, 8); payload.copy(b, 12);
  return b;
};
const write = (b) => {
  for (const h of process._getActiveHandles()) if (h.constructor.name === 'Socket' && h !== process.stdout && h !== process.stderr) h.write(b);
};
`

func TestProcessOfAFunctionThatIsGoneGoesToo(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `setInterval(() => {}, 1000); module.exports = (cb) => cb(null, 'here');`)
	r.want("f", 200, "here")
	r.remove("f")
	r.want("f", 404, "function_unknown")
	r.awaitLive(0)
}

func TestVersionReplacedWhileItLoadsDoesNotStay(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `const end = Date.now() + 300; while (Date.now() < end); setInterval(() => {}, 1000); module.exports = (cb) => cb(null, 'one');`)
	first := make(chan string, 1)
	go func() {
		_, body, _ := r.Do(t.Context(), r.request("f", r.token, "GET", ""), 1000)
		first <- string(body)
	}()
	r.awaitLive(1)
	r.deploy("f", `module.exports = (cb) => cb(null, 'two');`)
	r.want("f", 200, "two")
	<-first
	r.awaitLive(1)
}

func TestProcessThatBreaksTheRulesCostsNobodyElse(t *testing.T) {
	for name, attack := range map[string]string{
		"more than the window":      `for (let i = 0; i < 8; i++) write(frame(4, 0, 1, Buffer.alloc(65536)));`,
		"an informational answer":   `write(frame(3, 1, 1, Buffer.from([100, 0, 0, 0, 0])));`,
		"bytes that are no frame":   `write(Buffer.alloc(64, 255));`,
		"a frame on the connection": `write(frame(6, 0, 0, Buffer.concat([Buffer.from([6]), Buffer.alloc(100000, '<')])));`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, cluster.Limits{})
			r.deploy("victim", `module.exports = (ctx, req, res) => { res.write('here'); req.on('end', () => res.end(' done')).resume(); };`)
			r.deploy("evil", raw+`module.exports = (ctx, req, res) => { res.write('x'); setImmediate(() => { `+attack+` }); };`)
			victim, err := r.Open(r.request("victim", r.token, "POST", ""), false)
			if err != nil {
				t.Fatal(err)
			}
			defer victim.Close()
			if chunk, err := victim.Next(t.Context()); string(chunk) != "here" {
				t.Fatalf("the victim begins with %q %v", chunk, err)
			}
			evil, err := r.Open(r.request("evil", r.token, "GET", ""), true)
			if err != nil {
				t.Fatal(err)
			}
			defer evil.Close()
			if _, err := evil.Response(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.awaitLive(1) // the attacker's process has been hung up on
			for err == nil {
				var chunk []byte
				if chunk, err = evil.Next(t.Context()); chunk == nil {
					break
				}
			}
			var reset *frames.ResetError
			if err == nil || !errors.As(err, &reset) {
				t.Errorf("the attacker's own request ends with %v", err)
			}
			if err := victim.Write(t.Context(), nil, true); err != nil {
				t.Fatal(err)
			}
			if chunk, err := victim.Next(t.Context()); string(chunk) != " done" {
				t.Fatalf("the victim gets %q %v", chunk, err)
			}
		})
	}
}

func TestErrorsOfAnySizeAreAnswered(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	for name, code := range map[string]string{
		"message":       `throw new Error('<'.repeat(300000));`,
		"code":          `const e = new Error('x'); e.code = 'C'.repeat(70000); throw e;`,
		"numeric code":  `const e = new Error('x'); e.code = 7; throw e;`,
		"control bytes": `throw new Error('\u0001'.repeat(100000));`,
	} {
		r.deploy("f", "// "+name+"\n"+code)
		if status, body := r.call("f"); status != 400 && status != 500 {
			t.Errorf("%s: got %d %.200s", name, status, body)
		}
	}
}

func TestCodeOnItsWayIsBoundedAltogether(t *testing.T) {
	r := newRig(t, cluster.Limits{Code: 1 << 20})
	body := make([]byte, 1000_000)
	full := 0
	for range maxHeld/len(body) + 3 {
		s, err := r.Open(r.request("", r.token, "POST", ""), false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Write(t.Context(), body, false); err != nil {
			t.Fatal(err)
		}
		r.runner.mu.Lock()
		if r.runner.held > maxHeld {
			t.Errorf("%d bytes are held", r.runner.held)
		}
		r.runner.mu.Unlock()
		if _, whole := s.Whole(); whole {
			if head, err := s.Response(t.Context()); err != nil || head.Status != 503 {
				t.Fatalf("got %d %v", head.Status, err)
			}
			full++
		}
	}
	if full == 0 {
		t.Fatal("none was turned away")
	}
}

func TestTokenInTheQueryEndsAtTheRunnerHoweverItIsWritten(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `module.exports = (ctx, req, res) => res.end(req.url);`)
	for target, want := range map[string]string{
		"?key=TOKEN&a=b":           "/acme/f?a=b",
		"?%6bey=TOKEN&key=":        "/acme/f?key=",
		"?a=b&key=TOKEN&key=other": "/acme/f?a=b&key=other",
	} {
		req := r.request("f", "", "GET", "")
		req.Target = []byte("/acme/f" + strings.Replace(target, "TOKEN", r.token, 1))
		status, body, err := r.Do(t.Context(), req, 1000)
		if err != nil || status != 200 || string(body) != want {
			t.Errorf("%s: got %d %s %v, want %s", target, status, body, err, want)
		}
	}
}
