package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

// keep runs a clerk until the returned function ends it.
func keep(t *testing.T, cli *clientv3.Client) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); Keep(ctx, cli, slog.New(slog.DiscardHandler)) }()
	end = func() { cancel(); <-done }
	t.Cleanup(end)
	return end
}

// await waits until the log has n records, and returns them and their lines.
func await(t *testing.T, cli *clientv3.Client, n int64) ([]Record, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for b := range etcd.Watch(ctx, cli, cluster.AuditHeadKey) {
		for _, e := range b.Events {
			var h Head
			if err := json.Unmarshal(e.Value, &h); err != nil {
				t.Fatal(err)
			}
			if h.N < n {
				continue
			}
			var lines bytes.Buffer
			var records []Record
			head, err := Copy(t.Context(), cli, 0, &lines)
			if err == nil {
				_, err = VerifyTo(bytes.NewReader(lines.Bytes()), head)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(bytes.NewReader(lines.Bytes()), func(r Record) error { records = append(records, r); return nil }); err != nil {
				t.Fatal(err)
			}
			return records, lines.Bytes()
		}
	}
	t.Fatalf("record %d does not come", n)
	return nil, nil
}

func put(t *testing.T, kv clientv3.KV, key, value string) {
	t.Helper()
	if _, err := kv.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func told(records []Record) (list []string) {
	for _, r := range records {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%d %s %s: %s %s %s", r.N, r.By, r.With, r.Did, r.What, strings.Join(r.Changed, ","))))
	}
	return list
}

func TestEveryChangeIsRecordedWithWhoSaidThatHeMadeIt(t *testing.T) {
	_, cli := etcdtest.New(t)
	keep(t, cli)
	await(t, cli, 1)
	alice := Claiming(cli.KV, "operator-alice", Claim{Says: "alice@ws", With: "bulkhead tenant apply"})
	put(t, alice, cluster.TenantKey("acme"), `{"keys":[{"secret":"hush"}],"limits":{"rate":5}}`)
	put(t, alice, cluster.TenantKey("acme"), `{"keys":[{"secret":"hush2"}],"limits":{"rate":6,"wall":"1s"}}`)
	put(t, cli.KV, cluster.TenantKey("acme"), `{}`) // by etcdctl
	put(t, cli.KV, cluster.LoadKey("h1"), `{}`)     // nobody's decision
	put(t, cli.KV, cluster.CordonKey("h1"), "its disk is slow\nvery")
	if _, err := alice.Delete(t.Context(), cluster.TenantKey("acme")); err != nil {
		t.Fatal(err)
	}
	if err := Say(t.Context(), alice, "issued token X", "tenant acme"); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Txn(t.Context()).Then(clientv3.OpDelete(cluster.CycleKey("h1")), clientv3.OpDelete(cluster.AskKey("h1"))).Commit(); err != nil {
		t.Fatal(err)
	}
	records, lines := await(t, cli, 8)
	want := []string{
		"1  : began the log",
		"2 operator-alice bulkhead tenant apply: created tenant acme",
		"3 operator-alice bulkhead tenant apply: changed tenant acme keys[0].secret,limits.rate,limits.wall",
		"4  : changed tenant acme keys[0].secret,limits.rate,limits.wall",
		"5  : created cordon of host h1",
		"6 operator-alice bulkhead tenant apply: removed tenant acme",
		"7 operator-alice bulkhead tenant apply: issued token X tenant acme",
		"8 operator-alice bulkhead tenant apply: wrote",
	}
	if got := told(records); !slices.Equal(got, want) {
		t.Errorf("recorded:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if note := records[4].Note; note != "its disk is slow?very" {
		t.Errorf("the cordon's reason is recorded as %q", note)
	}
	if keys := records[7].Key; keys != cluster.CycleKey("h1")+" "+cluster.AskKey("h1") {
		t.Errorf("what was written is recorded as %q", keys)
	}
	if bytes.Contains(lines, []byte("hush")) {
		t.Error("a record holds a secret")
	}
}

func TestNothingIsRecordedTwiceOrNeverWhenClerksComeAndGo(t *testing.T) {
	_, cli := etcdtest.New(t)
	end := keep(t, cli)
	await(t, cli, 1)
	for i := range 40 {
		put(t, cli.KV, cluster.TenantKey(fmt.Sprintf("t%d", i)), "{}")
		if i%10 == 5 {
			next := keep(t, cli) // beside the other, for a while
			end()
			end = next
		}
		if i == 22 {
			end()
		}
	}
	records, _ := await(t, cli, 41)
	for i, r := range records[1:] {
		if want := fmt.Sprintf("tenant t%d", i); r.What != want {
			t.Fatalf("record %d is of %s, want %s", r.N, r.What, want)
		}
	}
}

func TestWhatEtcdDroppedIsSaidToBeMissed(t *testing.T) {
	_, cli := etcdtest.New(t)
	end := keep(t, cli)
	await(t, cli, 1)
	put(t, cli.KV, cluster.TenantKey("kept"), "{}")
	await(t, cli, 2)
	end()
	put(t, cli.KV, cluster.TenantKey("unseen"), "{}")
	r, err := cli.Put(t.Context(), cluster.TenantKey("gone"), "{}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Delete(t.Context(), cluster.TenantKey("gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Compact(t.Context(), r.Header.Revision); err != nil {
		t.Fatal(err)
	}
	keep(t, cli)
	records, _ := await(t, cli, 4)
	if got := records[2]; got.Did != "was found changed" || got.What != "tenant unseen" {
		t.Errorf("recorded: %+v", got)
	}
	if got := records[3]; got.Did != missed || !strings.Contains(got.Note, "revisions") {
		t.Errorf("recorded: %+v", got)
	}
	put(t, cli.KV, cluster.TenantKey("next"), "{}")
	if records, _ := await(t, cli, 5); records[4].What != "tenant next" {
		t.Errorf("recorded: %+v", records[4])
	}
}

func TestLongLogsAreKeptInPartAndStillVerified(t *testing.T) {
	_, cli := etcdtest.New(t)
	c := &clerk{cli: cli, log: slog.New(slog.DiscardHandler)}
	if err := c.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = Kept + 3000
	records := make([]Record, n)
	for i := range records {
		records[i] = Record{Revision: int64(i + 10), Did: "changed", What: "tenant acme"}
	}
	if err := c.take(t.Context(), records, n+10); err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	head, err := Copy(t.Context(), cli, 0, &lines)
	if err != nil {
		t.Fatal(err)
	}
	l, err := VerifyTo(bytes.NewReader(lines.Bytes()), head)
	if err != nil || l.Head.N != n+1 || l.First.N < 2 || l.Head.N-l.First.N < Kept-1000 {
		t.Errorf("etcd has records %d to %d, %v", l.First.N, l.Head.N, err)
	}
	lines.Reset()
	if _, err := Copy(t.Context(), cli, n-4, &lines); err != nil || bytes.Count(lines.Bytes(), []byte("\n")) != 5 {
		t.Errorf("%d lines come after record %d, %v", bytes.Count(lines.Bytes(), []byte("\n")), n-4, err)
	}
}

func TestWhateverIsChangedInALogBreaksIt(t *testing.T) {
	head := first
	var lines [][]byte
	for i := range 6 {
		line, next, err := head.add(Record{Revision: int64(i), By: "root", Did: "changed", What: fmt.Sprintf("tenant t%d", i)}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		lines, head = append(lines, line), next
	}
	whole := bytes.Join(lines, nil)
	if l, err := VerifyTo(bytes.NewReader(whole), head); err != nil || l.Head.N != 6 {
		t.Fatal(l, err)
	}
	if l, err := Verify(bytes.NewReader(bytes.Join(lines[3:], nil)), nil); err != nil || l.First.N != 4 {
		t.Errorf("a log that begins later: %v, %v", l, err)
	}
	// Every byte of it in turn; those of the last line show by its hash alone.
	for i := range whole {
		if whole[i] == '\n' {
			continue
		}
		other := bytes.Clone(whole)
		other[i] ^= 1
		if _, err := VerifyTo(bytes.NewReader(other), head); !errors.Is(err, ErrBroken) {
			t.Fatalf("byte %d, %q, was changed, and nobody noticed: %v", i, whole[i], err)
		}
	}
	for name, other := range map[string][][]byte{
		"a line is missing": {lines[0], lines[2], lines[3], lines[4], lines[5]}, "two have changed places": {lines[0], lines[2], lines[1], lines[3], lines[4], lines[5]},
		"a line is there twice": {lines[0], lines[1], lines[1], lines[2], lines[3], lines[4], lines[5]}, "the end is missing": lines[:5], "there is nothing": nil,
	} {
		if _, err := VerifyTo(bytes.NewReader(bytes.Join(other, nil)), head); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClaimsAreShownSafeAndShort(t *testing.T) {
	records := Records([]etcd.Event{
		{Key: cluster.ClaimKey("root"), Value: []byte(`{"says":"\u001b[2Jalice\nroot","with":"` + strings.Repeat("x", 500) + `"}`), Revision: 3},
		{Key: cluster.TenantKey("acme"), Value: []byte("{}"), Revision: 3, Created: 3},
		{Key: cluster.ClaimKey("root"), Value: []byte(`nonsense`), Revision: 4},
		{Key: cluster.RolloutKey("r"), Deleted: true, Revision: 4},
		{Key: cluster.RolloutKey("s"), Deleted: true, Revision: 5},                                        // nobody's
		{Key: cluster.ClaimKey("builder"), Value: []byte(`{"keys":["/bulkhead/builds/1"]}`), Revision: 6}, // no decision
	})
	if len(records) != 3 || records[0].Says != "?[2Jalice?root" || len(records[0].With) > longest+len("…") {
		t.Errorf("recorded: %+v", records)
	}
	if records[1].Says != "something that cannot be read" || records[2].By != "" {
		t.Errorf("recorded: %+v", records[1:])
	}
}
