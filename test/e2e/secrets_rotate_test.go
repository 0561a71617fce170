package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// load calls a tenant's function from several clients at once until it is
// ended, and counts what was answered and what was not as it should be.
type load struct {
	good, bad atomic.Int64
	first     atomic.Pointer[string] // of what was bad
	stop      chan struct{}
	work      sync.WaitGroup
}

func (m *machine) load(path, token, want string) *load {
	l := &load{stop: make(chan struct{})}
	for range 4 {
		l.work.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for {
				select {
				case <-l.stop:
					client.CloseIdleConnections()
					return
				default:
				}
				if got := call(client, m.proxy+path, token); strings.Contains(got, want) {
					l.good.Add(1)
				} else {
					l.bad.Add(1)
					l.first.CompareAndSwap(nil, &got)
				}
			}
		})
	}
	return l
}

func call(client *http.Client, url, token string) string {
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d %s %v", answer.StatusCode, body, err)
}

// end returns how many were answered well, and fails when one was not.
func (l *load) end(t *testing.T) int64 {
	t.Helper()
	close(l.stop)
	l.work.Wait()
	if n := l.bad.Load(); n > 0 {
		t.Errorf("%d requests failed, of %d; the first: %s", n, n+l.good.Load(), *l.first.Load())
	}
	return l.good.Load()
}

func TestAnotherKeyForSecretsWithoutAFailedRequest(t *testing.T) {
	m := thisMachine(t)
	m.up()
	h := newHoard(m)
	m.put("umbra", strings.Replace(specOf("umbra"), `"replicas": {`, `"limits": {"rate": 0}, "replicas": {"min": 1, `, 1))
	m.await("umbra can be called", func() bool {
		return strings.Contains(m.bulkhead("tenant", "show", "umbra"), "umbra.0 on "+m.name+": ready")
	})
	_, api := h.secret("api")
	m.run("sh", "-c", "cat >"+h.dir+"/f.js <<'END'\nconst kept = Math.random(); module.exports = (ctx, cb) => cb(null, { kept, n: ctx.secrets.API.length });\nEND")
	m.bulkhead("function", "deploy", "umbra", "f", h.dir+"/f.js", "--secret", "API=@"+api)
	token := m.token("umbra")
	_, before := m.call("/umbra/f", token)
	runner := m.pidOf("bulkhead-umbra-0.service")

	l := m.load("/umbra/f", token, strings.TrimSuffix(before, "}")) // the same process throughout
	var keys []string
	for range 3 {
		var did struct {
			Key     string
			Sealed  int
			Dropped []string
		}
		out := m.run("sh", "-c", strings.Join(m.command("secrets", "rotate", "--drop", "-o", "json"), " ")+" 2>/dev/null")
		if err := json.Unmarshal([]byte(out), &did); err != nil || did.Sealed < 2 || len(did.Dropped) != 1 {
			t.Fatalf("rotate printed %s: %v", out, err)
		}
		keys = append(keys, did.Key)
		// A spec of this moment goes through too, written in plain text.
		m.put("umbra", strings.Replace(specOf("umbra"), `"replicas": {`, fmt.Sprintf(`"limits": {"rate": 0, "body": "%dKiB"}, "replicas": {"min": 1, `, 100+len(keys)), 1))
		m.await("the spec of this moment is in force, sealed", func() bool {
			status := m.bulkhead("secrets", "status", "-o", "json")
			return strings.Contains(m.bulkhead("tenant", "show", "umbra"), fmt.Sprintf(`"body": "%dKiB"`, 100+len(keys))) && strings.Contains(status, `"plain": 0`)
		})
	}
	n := l.end(t)
	t.Logf("keys %v; %d requests, none failed", keys, n)
	if n < 100 {
		t.Errorf("only %d requests were made meanwhile", n)
	}
	if now := m.pidOf("bulkhead-umbra-0.service"); now != runner {
		t.Errorf("the runner was %s, and is %s", runner, now)
	}
	m.want("/umbra/f", m.token("umbra"), 200, strings.TrimSuffix(before, "}"))

	// What is on disk opens with the new key alone: after a restart without etcd.
	status := m.bulkhead("secrets", "status")
	if strings.Count(status, "\n") != 2 || !strings.Contains(status, keys[2]) {
		t.Errorf("keys are left over: %s", status)
	}
}
