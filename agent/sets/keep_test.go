package sets

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/agent/archives"
)

// neighbour is another host, whose agent gives what its store has.
func neighbour(t *testing.T, s *Store) archives.Dial {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := archives.Listen(socket, os.Getgid())
	if err != nil {
		t.Skipf("needs root: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- archives.NewServer(slog.New(slog.NewTextHandler(t.Output(), nil)), Kind(s)).Serve(ctx, ln)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(ctx context.Context, host, address string) (net.Conn, error) {
		if host != "h2" || address != "h2:8443" {
			t.Errorf("host %s at %s is asked", host, address)
		}
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
}

// fetched has a host with this store get a set from h2.
func fetched(t *testing.T, s *Store, dial archives.Dial, set string) {
	t.Helper()
	k := NewKeeper(s, dial, slog.New(slog.NewTextHandler(t.Output(), nil)))
	from := map[string]string{"h2": "h2:8443"}
	if at, soon := k.Where(set, from); at != "" || !soon {
		t.Fatalf("before, it is at %q, soon %v", at, soon)
	}
	ctx, cancel := context.WithCancel(t.Context())
	news, ended := make(chan bool, 8), make(chan bool)
	go func() { k.Run(ctx, func() { news <- true }); close(ended) }()
	<-news
	if at, _ := k.Where(set, from); at != "/modules/"+s.Name(set) {
		t.Errorf("afterwards it is at %q", at)
	}
	cancel()
	<-ended
}

func TestASetComesFromAHostThatHasUnpackedIt(t *testing.T) {
	there, here := open(t), open(t)
	set, data := archive(t, sample...)
	unpack(t, there, set, data)
	fetched(t, here, neighbour(t, there), set)
	if err := here.Verify(t.Context(), set, map[uint64]bool{}); err != nil {
		t.Error(err)
	}
}

func TestASetComesFromABuildersHost(t *testing.T) {
	there, here := open(t), open(t)
	set, data := archive(t, sample...)
	if err := os.Mkdir(filepath.Dir(there.Archive(set)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(there.Archive(set), data, 0o644); err != nil {
		t.Fatal(err)
	}
	fetched(t, here, neighbour(t, there), set)
}

func TestWhatAHostGivesInAnothersPlaceIsRefused(t *testing.T) {
	there, here := open(t), open(t)
	set, data := archive(t, sample...)
	unpack(t, there, set, data)
	file := there.file(digest([]byte("far down")), false)
	if err := os.WriteFile(file, []byte("FAR DOWN"), 0); err != nil {
		t.Fatal(err)
	}
	source := archives.Host("h2", "h2:8443", "/sets/"+set, neighbour(t, there))
	body, err := source.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := here.Unpack(t.Context(), set, body); err == nil || here.Has(set) {
		t.Errorf("it is taken: %v", err)
	}
	lacks := archives.Host("h2", "h2:8443", "/sets/"+digest(nil), neighbour(t, there))
	if _, err := lacks.Open(t.Context()); err == nil {
		t.Error("a set that nobody has is given")
	}
}
