package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sin is a way to misbehave, and what the request that did it gets.
type sin struct {
	name   string // a sentence
	code   string // the body of (ctx, req, res) => …, on line 2 of its file
	top    string // what runs when the file is loaded, on line 1
	flags  []string
	status []int    // any of these
	cause  string   // of the platform's answer
	says   []string // in the answer's body
	here   bool     // the answer names line 2
	veiled bool     // nobody can tell whose fault the process's end was
	small  bool     // the tenant's container has 128 MiB
	attack func(c *tenant, function string) got
}

// around is what stands around the code of a sin: two requests that wait for a second, and
// one that is answered when they have begun.
const around = `%s
async function sin(ctx, req, res) { %s
}
const later = setTimeout, waiting = [];
let begun = () => {};
module.exports = (ctx, req, res) => {
  switch (req.url.slice(1)) {
    case 'quick': return void res.end('quick');
    case 'begun': return void (begun = () => { if (waiting.length >= 2) res.end('begun'); })();
    case 'slow':
      waiting.push(res);
      later(() => res.end('slow'), 1000);
      return begun();
    default: return sin(ctx, req, res);
  }
};
`

// suffered is what everyone got.
type suffered struct {
	err             error
	offender        got
	get, post       got // in flight in the same process
	after           got // the next of the same function
	other, neighbor watcher
}

const harsh = `"limits": {"block": "250ms", "cpu": "500ms", "background": "500ms", "wall": "20s", "rate": 0, "concurrency": 1000}, "sleep": {"freeze": "0s", "dormant": "0s"}`

func misbehave(t *testing.T, m *machine) {
	neighbor := m.tenant("neighbor", harsh)
	neighbor.mustDeploy("other", `module.exports = (cb) => cb(null, 'quick');`+"\nmodule.exports = (ctx, req, res) => res.end('quick');")
	const lanes = 5
	queues := make([][]*sin, lanes+1)
	results := map[*sin]*suffered{}
	n := 0
	for i := range sins {
		s := &sins[i]
		results[s] = &suffered{}
		lane := lanes
		if !s.small {
			lane = n % lanes
			n++
		}
		queues[lane] = append(queues[lane], s)
	}
	var all sync.WaitGroup
	for lane, queue := range queues {
		memory, limits := "512MiB", harsh
		if lane == lanes { // filling it takes a while
			memory, limits = "128MiB", strings.NewReplacer(`"block": "250ms"`, `"block": "3s"`, `"cpu": "500ms"`, `"cpu": "4s"`).Replace(harsh)
		}
		c := m.tenant(fmt.Sprintf("sinner-%d", lane), limits+`, "resources": {"memory": "`+memory+`", "cpu": 1, "pids": 512}`)
		c.mustDeploy("other", `module.exports = (ctx, req, res) => res.end('quick');`)
		all.Go(func() {
			for i, s := range queue {
				c.commit(s, fmt.Sprintf("sin-%d", i), neighbor, results[s])
			}
		})
	}
	all.Wait()
	for i := range sins {
		t.Run(sins[i].name, func(t *testing.T) { sins[i].check(t, results[&sins[i]]) })
	}
}

// commit does it, with honest requests in flight around it.
func (c *tenant) commit(s *sin, function string, neighbor *tenant, r *suffered) {
	if r.err = c.deploy(function, fmt.Sprintf(around, s.top, s.code), s.flags...); r.err != nil {
		return
	}
	other, others := c.watch("other"), neighbor.watch("other")
	var get, post <-chan got
	if s.top == "" {
		c.awaitRoom(function)
		get, post = c.start("GET", function+"/slow"), c.start("POST", function+"/slow")
		if begun := c.get(function + "/begun"); !begun.ok("begun") {
			r.err = fmt.Errorf("before it began: %v", begun)
			return
		}
	}
	if s.attack != nil {
		r.offender = s.attack(c, function)
	} else {
		r.offender = c.get(function + "/sin")
	}
	r.after = c.get(function + "/quick")
	if get != nil {
		r.get, r.post = <-get, <-post
	}
	other.end()
	others.end()
	r.other, r.neighbor = *other, *others
}

// awaitRoom waits until the processes of what was tried before have gone, as
// far as this function's needs their room.
func (c *tenant) awaitRoom(function string) {
	c.m.await("there is room for "+function, func() bool { return c.get(function+"/quick").Error != "no_room" })
}

func (s *sin) check(t *testing.T, r *suffered) {
	if r.err != nil {
		t.Fatal(r.err)
	}
	o := r.offender
	t.Logf("offender: %v", o)
	if s.top == "" {
		t.Logf("GET %v; POST %v; next %v", r.get, r.post, r.after)
	}
	t.Logf("his other function: %d calls, worst %v; another tenant: %d, worst %v", r.other.calls, r.other.worst.Round(time.Millisecond), r.neighbor.calls, r.neighbor.worst.Round(time.Millisecond))
	if o.err != nil && !s.veiled {
		t.Error(o.err)
	}
	if len(s.status) > 0 && !slices.Contains(s.status, o.status) {
		t.Errorf("the offender got %v, want %v", o, s.status)
	}
	for _, want := range append(s.says, s.cause) {
		if !strings.Contains(o.body, want) {
			t.Errorf("the offender does not hear %q: %v", want, o)
		}
	}
	if s.cause != "" && o.Error != s.cause {
		t.Errorf("the cause is %q, want %q", o.Error, s.cause)
	}
	// On a busy machine the debugger may come too late, and the process is ended.
	if s.here && !strings.Contains(o.body, ".js:2") && !strings.Contains(o.body, "native call") {
		t.Errorf("the offender does not hear where it was: %v", o)
	}
	if s.cause == "block_limit" && (o.Limit != "limits.block" || o.Value != "250ms" || o.Measured == "") {
		t.Errorf("the limit %q, its value %q and what was measured %q are told", o.Limit, o.Value, o.Measured)
	}
	if s.top == "" {
		if !r.get.ok("slow") && !(s.veiled && r.get.status == 503 && r.get.Error == "process_ended") {
			t.Errorf("an honest GET in flight got %v", r.get)
		}
		if !r.post.ok("slow") && (r.post.status != 503 || r.post.Error != "process_ended") {
			t.Errorf("an honest POST in flight got %v", r.post)
		}
		if !r.after.ok("quick") {
			t.Errorf("the next request got %v", r.after)
		}
	}
	for whose, w := range map[string]*watcher{"his other function": &r.other, "another tenant": &r.neighbor} {
		for _, g := range w.failed {
			t.Errorf("%s got %v", whose, g)
		}
	}
}
