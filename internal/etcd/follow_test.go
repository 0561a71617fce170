package etcd

import (
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// follower starts an etcd and a watch that has listed it.
func follower(t *testing.T) (*clientv3.Client, *watch, Batch) {
	t.Helper()
	s, err := Embed(t.TempDir(), "http://127.0.0.1:0", "http://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	cli, err := Open(Config{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	w := &watch{cli: cli, prefixes: whole([]string{"/a/", "/b/"}), out: make(chan Batch)}
	b, err := list(t.Context(), cli, w.prefixes)
	if err != nil {
		t.Fatal(err)
	}
	return cli, w, b
}

func TestFollowSaysHowHistoryWasLost(t *testing.T) {
	t.Parallel()
	t.Run("compacted", func(t *testing.T) {
		cli, w, from := follower(t)
		for range 5 {
			if _, err := cli.Put(t.Context(), "/a/k", "v"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := cli.Compact(t.Context(), from.Revision+4); err != nil {
			t.Fatal(err)
		}
		if err := w.follow(t.Context(), from); !errors.Is(err, ErrCompacted) {
			t.Error(err)
		}
	})
	t.Run("set back", func(t *testing.T) {
		_, w, from := follower(t)
		from.Revision += 1000
		if err := w.follow(t.Context(), from); !strings.Contains(err.Error(), "went back from revision") {
			t.Error(err)
		}
	})
	t.Run("another cluster", func(t *testing.T) {
		cli, w, from := follower(t)
		from.cluster++
		if _, err := cli.Put(t.Context(), "/a/k", "v"); err != nil {
			t.Fatal(err)
		}
		if err := w.follow(t.Context(), from); err != errOther {
			t.Error(err)
		}
	})
}
