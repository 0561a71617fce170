package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/agent/egress/egresstest"
)

// attack is what a hostile tenant, or his clients, do for a while.
type attack struct {
	name string
	code string // of the attacker's function, which is asked for it
	asks int    // so many times a second
	own  func(context.Context, *cluster, *answers)
	told func(context.Context, *cluster, *answers) string // nil: his answers tell
}

// attacker's spec is what anybody's is who has asked for nothing.
const attacker = "attacker"

var attacks = []attack{
	{name: "CPU: loops, 20 a second", asks: 20, code: `module.exports = (cb) => { for (;;) ; };`},
	{name: "fork bomb: 1,000 programs a second", asks: 20, code: `const { spawn } = require('child_process');
module.exports = (cb) => { let last; for (let i = 0; i < 50; i++) try { spawn('/proc/self/exe'); } catch (err) { last = err; } cb(null, last ? last.message : 'spawned'); };`},
	{name: "memory bomb, 10 a second", asks: 10, code: `module.exports = (cb) => { const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1)); };`},
	{name: "file descriptors, 10 a second", asks: 10, code: `const fs = require('fs');
const held = []; module.exports = (cb) => { for (;;) held.push(fs.openSync('/tmp/' + held.length, 'w')); };`},
	{name: "disk: /tmp filled, 10 a second", asks: 10, code: `const fs = require('fs');
let n = 0; module.exports = (cb) => { for (;;) fs.writeFileSync('/tmp/' + n++, Buffer.alloc(1 << 20, 1)); };`},
	{name: "log flood", asks: 10, told: toldInLogs, code: `module.exports = (cb) => { const until = Date.now() + 500; const f = () => {
for (let i = 0; i < 500; i++) console.log('a line of a flood', i, 'x'.repeat(100)); Date.now() < until ? setImmediate(f) : cb(null, 'flooded'); }; f(); };`},
	{name: "DNS flood: 10,000 questions a second", asks: 10, told: toldOfEgress, code: `const { Resolver } = require('dns').promises;
const r = new Resolver({ timeout: 500, tries: 1 });
module.exports = async () => { const got = {}; await Promise.all(Array.from({ length: 1000 }, (_, i) =>
r.resolve4('x' + i + Math.random() + '.example.com').catch((err) => { got[err.code] = (got[err.code] || 0) + 1; }))); return got; };`},
	{name: "connection flood, outward: 5,000 a second", asks: 10, told: toldOfEgress, code: `const net = require('net');
module.exports = async () => { const got = {}; await Promise.all(Array.from({ length: 500 }, () => new Promise((done) => {
const s = net.connect({ host: '` + egresstest.Site + `', port: 80, timeout: 1000 }); const end = (what) => { got[what] = (got[what] || 0) + 1; s.destroy(); done(); };
s.on('connect', () => setTimeout(() => end('connected'), 500)).on('error', (err) => end(err.code)).on('timeout', () => end('timeout')); }))); return got; };`},
	{name: "connection flood, inward: 1,000 a second, each silent", own: connectionFlood},
	{name: "request flood, 2,000 a second", own: requestFlood, code: helloCallback},
	{name: "cold starts, 10,000 a minute asked for", own: coldStarts},
}

// answers count what was heard, by its first words, with an example of each.
type answers struct {
	mu      sync.Mutex
	counts  map[string]int
	example map[string]string
	note    string
}

func newAnswers() *answers { return &answers{counts: map[string]int{}, example: map[string]string{}} }

func (a *answers) add(kind, example string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[kind]++
	a.example[kind] = example
}

// heard sorts an answer under its status and the platform's cause.
func (a *answers) heard(got answer, err error) {
	var e struct{ Message string }
	switch {
	case err != nil:
		a.add("no answer", err.Error())
	case json.Unmarshal([]byte(got.body), &e) == nil && e.Message != "":
		a.add(kindOf(got.status, got.body), e.Message)
	default:
		a.add(kindOf(got.status, ""), got.body)
	}
}

// kindOf is an answer's status, and the platform's or the runtime's word for
// what was wrong.
func kindOf(status int, body string) string {
	var e struct{ Error string }
	if json.Unmarshal([]byte(body), &e); e.Error == "" || strings.Contains(e.Error, " ") {
		return fmt.Sprint(status)
	}
	return fmt.Sprintf("%d %s", status, e.Error)
}

// asked asks, and gives up when the attack is over.
func (a *answers) asked(ctx context.Context, t target) {
	got, err := t.ask(ctx, "GET", "", nil)
	if ctx.Err() == nil {
		a.heard(got, err)
	}
}

// told is what was heard most, two kinds of it, but for plain success.
func (a *answers) told() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := 0
	var kinds []string
	for kind, n := range a.counts {
		if all += n; kind != "200" {
			kinds = append(kinds, kind)
		}
	}
	slices.SortFunc(kinds, func(x, y string) int { return a.counts[y] - a.counts[x] })
	if kinds = kinds[:min(2, len(kinds))]; len(kinds) == 0 && all > 0 {
		kinds = []string{"200"}
	}
	var words []string
	for _, kind := range kinds {
		text := strings.Join(strings.Fields(a.example[kind]), " ")
		words = append(words, fmt.Sprintf("%d of %d: `%s` “%.160s”", a.counts[kind], all, kind, strings.ReplaceAll(text, "|", "/")))
	}
	return strings.TrimSpace(strings.Join(words, "; ") + " " + a.note)
}

// mostAsked is how many requests of an attack may be in flight.
const mostAsked = 400

// flood asks so many times a second until ctx ends, whatever comes back; of
// what is in flight there is a bound, so that it is the platform that is tried
// and not this program.
func flood(ctx context.Context, perSecond, most int, one func(n int)) {
	var work sync.WaitGroup
	defer work.Wait()
	room := make(chan struct{}, most)
	begun, tick, n := time.Now(), time.NewTicker(5*time.Millisecond), 0
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(begun).Seconds() * float64(perSecond)); n < due; n++ {
			select {
			case room <- struct{}{}:
				work.Go(func() { one(n); <-room })
			default:
			}
		}
	}
}

// run attacks for so long, and returns what the attacker hears.
func (a attack) run(ctx context.Context, c *cluster, d time.Duration) *answers {
	got := newAnswers()
	attacking, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if a.own != nil {
		a.own(attacking, c, got)
		return got
	}
	t := c.function(attacker, "f")
	flood(attacking, a.asks, mostAsked, func(int) { got.asked(attacking, t) })
	return got
}

func toldInLogs(ctx context.Context, c *cluster, _ *answers) string {
	return c.platformSaid(ctx, "lines were dropped")
}

func toldOfEgress(ctx context.Context, c *cluster, got *answers) string {
	return got.told() + "; in its log: “" + c.platformSaid(ctx, "egress:") + "”"
}

// platformSaid is the first line of the platform's own with these words in the
// attacker's log.
func (c *cluster) platformSaid(ctx context.Context, words string) string {
	out, err := exec.CommandContext(ctx, "bin/bulkhead", "logs", attacker, "--state", c.dir+"/state", "--platform", "--tail", "2000").Output()
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, words) {
			return strings.TrimSpace(line)
		}
	}
	return "nothing"
}

func requestFlood(ctx context.Context, c *cluster, got *answers) {
	t := c.function(attacker, "f")
	flood(ctx, 2000, mostAsked, func(int) { got.asked(ctx, t) })
}

// connectionFlood holds connections that have sent half a request.
func connectionFlood(ctx context.Context, c *cluster, got *answers) {
	var held sync.WaitGroup
	defer held.Wait()
	elsewhere := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	flood(ctx, 1000, mostAsked, func(int) {
		conn, err := elsewhere.DialContext(ctx, "tcp", strings.TrimPrefix(c.proxy, "http://"))
		if err != nil && ctx.Err() == nil {
			got.add("no connection", err.Error())
		}
		if err != nil {
			return
		}
		conn.Write([]byte("GET /attacker/f HTTP/1.1\r\nHost: x\r\n"))
		held.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { // not all at once: that would be another attack
				time.Sleep(rand.N(3 * time.Second))
				conn.Close()
			})()
			b := make([]byte, 1024)
			n, err := conn.Read(b)
			if head, body, ok := strings.Cut(string(b[:n]), "\r\n\r\n"); ok {
				got.heard(answer{status: statusOf(head), body: body}, nil)
			} else if ctx.Err() == nil {
				got.add("closed", fmt.Sprint(err))
			}
		})
	})
}

func statusOf(head string) (status int) {
	fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	return status
}

// sleepers are the tenants that are woken by turns.
const sleepers = 150

func sleeper(i int) string { return fmt.Sprintf("sleeper-%d", i%sleepers) }

// coldStarts asks each of many tenants that sleep as soon as they may.
func coldStarts(ctx context.Context, c *cluster, got *answers) {
	before, begun := c.wakes(), time.Now()
	flood(ctx, 10_000/60, 4000, func(n int) { got.asked(ctx, c.function(sleeper(n), "f")) })
	woken := c.wakes() - before
	got.note = fmt.Sprintf("(%.0f a minute were had)", float64(woken)/time.Since(begun).Minutes())
}

// wakes counts the instances that were given a cell so far.
func (c *cluster) wakes() int {
	text, _ := os.ReadFile(c.dir + "/up.log")
	return strings.Count(string(text), "instance is awake")
}
