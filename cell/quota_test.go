package cell

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"bulkhead/internal/cellctl"
)

// Honest work that gets hardly any CPU, because its container has little and
// the tenant's other function wants it, too, is not taken for a blocking wait;
// and a loop there is stopped as a loop, not killed as native code.
func TestTightQuota(t *testing.T) {
	c := startContainer(t)
	const block = 400
	var sockets []string
	for _, name := range []string{"one", "two"} {
		r := c.mustServe(t, Request{Function: name, Version: "v", File: "f.js", Limits: &cellctl.Limits{Block: block},
			Code: `const used = () => process.threadCpuUsage().user + process.threadCpuUsage().system;
module.exports = (ctx, cb) => { for (const end = used() + ctx.query.ms * 1000; ctx.query.loop || used() < end;) ; cb(null, 'done'); };`})
		sockets = append(sockets, r.Socket)
	}
	name := "bulkhead-test-" + filepath.Base(c.dir)
	if out, err := exec.Command("docker", "update", "--cpus=0.1", name).CombinedOutput(); err != nil {
		t.Fatalf("cannot give the container less CPU: %v: %s", err, out)
	}
	var all sync.WaitGroup
	for _, socket := range sockets {
		client := c.connect(t, socket)
		for i := range 2 {
			all.Go(func() {
				if got := c.body(t, client, fmt.Sprint("r", i), fmt.Sprintf("/?ms=%d", block/2)); got != `"done"` {
					t.Errorf("honest work got %s", got)
				}
			})
		}
	}
	all.Wait()
	for len(c.verdicts) > 0 {
		t.Errorf("a verdict came: %+v", *(<-c.verdicts).Verdict)
	}
	bad, err := c.connect(t, sockets[0]).Open(asked("bad", "/?loop=1"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if v := c.nextVerdict(t).Verdict; v.Kind != "block" || v.Request != "bad" || v.Killed {
		t.Errorf("the verdict of a loop is %+v", *v)
	}
}
