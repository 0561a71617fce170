package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func logEntry(tenant, function, level, message string, second int) string {
	return fmt.Sprintf(`{"time":"2026-11-22T13:00:%02d.000Z","tenant":%q,"instance":"%s.0","function":%q,"level":%q,"message":%q}`+"\n", second, tenant, tenant, function, level, message)
}

func TestFileLines(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, lines ...string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("bulkhead-a_b-0.service.log.1", logEntry("a-b", "f", "info", "before", 1))
	write("bulkhead-a_b-0.service.log", logEntry("a-b", "f", "info", "third", 4), "time=… level=WARN msg=\"the runner's own\"\n", logEntry("a-b", "g", "error", "fourth", 5), logEntry("a-b", "f", "platform", "the cell's", 6))
	write("bulkhead-a_b-1.service.log", logEntry("a-b", "f", "info", "second", 3), logEntry("other", "f", "info", "forged", 3))
	write("bulkhead-a_b_c-0.service.log", logEntry("a-b-c", "f", "info", "another tenant's", 3))
	for _, c := range []struct {
		sentence string
		query    logQuery
		want     string
	}{
		{"lines of all instances come in order, those from before a trim first", logQuery{tenant: "a-b"}, "before second third fourth"},
		{"one function's", logQuery{tenant: "a-b", function: "g"}, "fourth"},
		{"the last two", logQuery{tenant: "a-b", tail: 2}, "third fourth"},
		{"since a time", logQuery{tenant: "a-b", since: time.Date(2026, 11, 22, 13, 0, 4, 0, time.UTC)}, "third fourth"},
		{"the platform's too", logQuery{tenant: "a-b", tail: 1, platform: true}, "the cell's"},
		{"a tenant's whose name begins another's unit", logQuery{tenant: "a"}, ""},
	} {
		var got []string
		if err := fileLines(t.Context(), dir, c.query, func(l logLine) { got = append(got, l.Message) }); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q", c.sentence, strings.Join(got, " "), c.want)
		}
	}
}

func TestFileLinesGoOnWithWhatComes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bulkhead-acme-0.service.log")
	add := func(path, text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.WriteString(text)
	}
	add(path, logEntry("acme", "f", "info", "old", 1))
	ctx, cancel := context.WithCancel(t.Context())
	lines, done := make(chan string), make(chan error, 1)
	go func() {
		done <- fileLines(ctx, dir, logQuery{tenant: "acme", follow: true}, func(l logLine) { lines <- l.Message })
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-lines; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expect("old")
	half := logEntry("acme", "f", "info", "in two parts", 2)
	add(path, half[:20])
	add(path, half[20:])
	expect("in two parts")
	if err := os.Truncate(path, 0); err != nil { // as a trim does
		t.Fatal(err)
	}
	add(path, logEntry("acme", "f", "info", "new", 3))
	expect("new")
	add(filepath.Join(dir, "bulkhead-acme-1.service.log"), logEntry("acme", "f", "info", "another instance", 4))
	expect("another instance")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestParseJournal(t *testing.T) {
	const good = `{"_SYSTEMD_UNIT":"bulkhead-acme-0.service","MESSAGE":"hi","TENANT":"acme","INSTANCE":"acme.0","FUNCTION":"f","LEVEL":"info","REQUEST_ID":"r1","PRINTED":"2026-11-22T13:00:00.5Z"}`
	l, ok := parseJournal([]byte(good))
	if !ok || l.Message != "hi" || l.Request != "r1" || l.Time.Nanosecond() != 5e8 {
		t.Errorf("got %+v, %v", l, ok)
	}
	for sentence, line := range map[string]string{
		"written by somebody else":                 strings.Replace(good, "bulkhead-acme-0.service", "evil.service", 1),
		"written by another tenant's runner":       strings.Replace(good, "bulkhead-acme-0.service", "bulkhead-globex-0.service", 1),
		"of an instance that is not the tenant's":  strings.Replace(good, `"TENANT":"acme"`, `"TENANT":"globex"`, 1),
		"not written with our fields":              `{"_SYSTEMD_UNIT":"bulkhead-acme-0.service","MESSAGE":"hi"}`,
		"no JSON, as of a journalctl of old times": "-- No entries --",
	} {
		if l, ok := parseJournal([]byte(line)); ok {
			t.Errorf("%s: taken as %+v", sentence, l)
		}
	}
	// journalctl shows what is not plain text as numbers.
	if l, ok := parseJournal([]byte(strings.Replace(good, `"hi"`, `[104,105,27]`, 1))); !ok || l.Message != "hi\x1b" {
		t.Errorf("bytes: got %+v, %v", l, ok)
	}
}
