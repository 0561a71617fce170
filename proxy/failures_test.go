package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
	"bulkhead/internal/tally"
)

// failed is how many requests the proxy has written down as failed, once all
// that it knows is written.
func (p testProxy) failed(t *testing.T) int64 {
	t.Helper()
	p.proxy.failures.save()
	n, err := tally.Read(p.proxy.failures.file)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOnlyWhatThePlatformFailedIsCounted(t *testing.T) {
	instance := func(x *framestest.Exchange) {
		switch string(x.Request.Fields.Get(frames.FieldFunction)) {
		case "fine":
			x.Answer(200, nil, "ok", true)
		case "throws":
			x.Answer(500, nil, "its own", true)
		case "breaks":
			x.Answer(200, nil, "some", false)
			x.Reset(frames.CodeInternal, "it broke")
		case "short":
			x.Answer(200, map[string]string{"content-length": "9"}, "some", true)
		case "gives-up":
			x.Reset(frames.CodeInternal, "it broke")
		case "goes":
			x.Reset(frames.CodeGone, "its runner is ending")
		case "goes-late":
			x.Answer(200, nil, "some", false)
			x.Reset(frames.CodeGone, "its runner is ending")
		case "hangs-up":
			x.HangUp()
		}
	}
	eachProtocol(t, nil, func(t *testing.T, s secureProxy, c *http.Client) {
		s.proxy.failures = newFailures(filepath.Join(t.TempDir(), "failures"), slog.New(slog.DiscardHandler))
		if n := s.failed(t); n != 0 {
			t.Errorf("before any request: %d", n)
		}
		set(s.table, ready(framestest.Listen(t, instance)), cluster.Instance{Tenant: "idle", Instance: "idle.0", Host: "h1", Phase: cluster.Failed})
		want := int64(0)
		for _, r := range []struct {
			tenant, function, cause string
			counts                  bool
		}{
			{"acme", "fine", "", false},
			{"acme", "throws", "", false},
			{"acme", "breaks", "answer_broken_off", false},
			{"acme", "short", "bad_answer", false},
			{"acme", "gives-up", "instance_reset", false},
			{"nobody", "fine", "tenant_unknown", false},
			{"acme", "goes", "instance_gone", true},
			{"acme", "goes-late", "answer_broken_off", true},
			{"acme", "hangs-up", "instance_gone", true},
			{"idle", "fine", "no_instance", true},
		} {
			resp, err := c.Do(newRequest(t, "GET", strings.Replace(s.url, "acme", r.tenant, 1)+"/"+r.function, nil))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			rec := s.log.record(t)
			if cause, _ := rec["cause"].(string); cause != r.cause || (err != nil) != (r.cause == "answer_broken_off") {
				t.Errorf("%s of %s: %v, access record %v", r.function, r.tenant, err, rec)
			}
			if r.counts {
				want++
			}
			if n := s.failed(t); n != want {
				t.Fatalf("after %s of %s it counts %d, want %d", r.function, r.tenant, n, want)
			}
		}
	})
}

func TestFailuresAreWrittenWithinASecondAndByTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "failures")
	said := &logBuffer{got: make(chan struct{}, 100)}
	log := slog.New(slog.NewTextHandler(said, nil))
	is := func(want int64) {
		t.Helper()
		if n, err := tally.Read(file); n != want || err != nil {
			t.Errorf("it counts %d (%v), want %d", n, err, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		f, beside := newFailures(file, log), newFailures(file, log)
		is(0)
		f.one()
		f.one()
		beside.one()
		is(0)
		time.Sleep(countAfter)
		synctest.Wait()
		is(3)
		beside.one()
		beside.Close()
		is(4)
		f.one()
		away := filepath.Dir(file) + "-away"
		if err := os.Rename(filepath.Dir(file), away); err != nil {
			t.Fatal(err)
		}
		time.Sleep(countAfter)
		synctest.Wait()
		if !strings.Contains(said.text(), "not counted for now") {
			t.Errorf("it says %q", said.text())
		}
		if err := os.Rename(away, filepath.Dir(file)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(countAfter)
		synctest.Wait()
		is(5)
		f.one()
		f.Close()
		is(6)
	})
}
