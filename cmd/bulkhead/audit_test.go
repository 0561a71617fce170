package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// awaitAudit waits until the audit log in etcd says something.
func (s *site) awaitAudit(says string) string {
	s.t.Helper()
	last := ""
	for range etcd.Watch(s.t.Context(), s.cli, cluster.AuditHeadKey) {
		if last = s.must("audit", "log"); strings.Contains(last, says) {
			return last
		}
	}
	s.t.Fatalf("the log does not come to say %q:\n%s", says, last)
	return ""
}

func TestAuditLogTellsWhoDidWhatAndIsVerifiedOffline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	acme := s.file("acme.yaml", acmeYAML)
	js := s.file("hello.js", "module.exports = cb => cb(null, 'hi')")
	s.awaitAudit("began the log")
	s.must("tenant", "apply", "-f", acme, "--wait")
	s.must("function", "deploy", "acme", "hello", js, "--secret", "API=s3cr3t")
	s.must("token", "acme")
	s.must("tenant", "show", "acme", "--secrets")
	if _, err := s.cli.Put(t.Context(), cluster.TenantKey("globex"), `{"keys":[]}`); err != nil { // past bulkhead
		t.Fatal(err)
	}
	log := s.awaitAudit("tenant globex")
	for _, line := range []struct{ what, with, did string }{
		{"tenant acme", "bulkhead tenant apply", "created"}, {"function acme/hello", "bulkhead function deploy", "created"},
		{"tenant acme", "bulkhead token", "issued token "}, {"tenant acme", "bulkhead tenant show", "showed secrets"}, {"tenant globex", "-", "created"},
	} {
		found := false
		for l := range strings.Lines(log) {
			who := "root ("
			if line.with == "-" {
				who = "not said"
			}
			found = found || strings.Contains(l, who) && strings.Contains(l, line.did) && strings.Contains(l, line.what) && strings.Contains(l, line.with)
		}
		if !found {
			t.Errorf("no line says that %s was %s with %s:\n%s", line.what, line.did, line.with, log)
		}
	}
	if out := s.must("audit", "log", "--tenant", "globex", "--last", "1", "-o", "json"); strings.Contains(out, "acme") || !strings.Contains(out, `"did": "created"`) {
		t.Errorf("of globex: %s", out)
	}

	file := s.file("audit.jsonl", "")
	s.must("audit", "export", "--into", file)
	if out := s.must("audit", "export", "--into", file); !strings.Contains(out, "0 records added") {
		t.Errorf("exported again: %s", out)
	}
	s.must("tenant", "rm", "acme", "--purge")
	s.awaitAudit("bulkhead tenant rm")
	out := s.must("audit", "export", "--into", file)
	_, head, _ := strings.Cut(strings.TrimSpace(out), "head ")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(secret)) || bytes.Contains(data, []byte("s3cr3t")) {
		t.Error("the log holds a secret")
	}
	nowhere := "http://127.0.0.1:1" // it needs no cluster
	if out := s.must("audit", "verify", file, "--head", head, "--endpoints", nowhere); !strings.Contains(out, "unbroken: records 1 to ") {
		t.Errorf("verify: %s", out)
	}
	s.must("audit", "verify")
	s.fails(exitUsage, "no end of an audit log", "audit", "verify", file, "--head", "17")

	lines := bytes.SplitAfter(data, []byte("\n"))
	s.fails(exitInvalid, "which was noted, is not in it", "audit", "verify", s.file("cut.jsonl", string(bytes.Join(lines[:len(lines)-2], nil))), "--head", head)
	other := s.file("other.jsonl", strings.Replace(string(data), "tenant acme", "tenant amce", 1))
	s.fails(exitInvalid, "the chain is broken at line 3", "audit", "verify", other)
	s.fails(exitInvalid, "begin another file", "audit", "export", "--into", other)
}

func TestAuditFollows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	s.awaitAudit("began the log")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		run(ctx, []string{"--endpoints", s.endpoint, "audit", "log", "-f"}, stdio{nil, w, io.Discard})
		w.Close()
	}()
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML))
	shown := 0
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if strings.Contains(lines.Text(), "began the log") {
			shown++
		}
		if strings.Contains(lines.Text(), "created") && strings.Contains(lines.Text(), "tenant acme") {
			cancel()
			if shown != 1 {
				t.Errorf("the first record is shown %d times", shown)
			}
			return
		}
	}
	t.Fatal("the new record is not shown")
}
