package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// imagesFrom makes a client of a host's agent, as another host's agent is.
func imagesFrom(t *testing.T, files *PeerFiles, self, host, address string) *http.Client {
	t.Helper()
	dial, err := ImageDialer(self, *files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, host, address) }}
	return &http.Client{Transport: transport}
}

func TestHostGetsAnImageThroughAnothersProxy(t *testing.T) {
	f := newFleet(t)
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	begun, release := make(chan struct{}), make(chan struct{})
	agent := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "archive of "+r.URL.Path)
		if r.URL.Path == "/images/endless" {
			http.NewResponseController(w).Flush()
			close(begun)
			<-release
		}
	})}
	go agent.Serve(ln)
	t.Cleanup(func() { close(release); agent.Close() })
	h := f.start("h1", Options{Peers: f.ca.peer("h1"), Images: socket}, listen(t, "127.0.0.1:0"))

	resp, err := imagesFrom(t, f.ca.peer("h2"), "h2", "h1", h.address).Get("http://h1/images/one")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "archive of /images/one" {
		t.Errorf("got %q, %v", body, err)
	}
	if _, err := imagesFrom(t, newAuthority(t).peer("h2"), "h2", "h1", h.address).Get("http://h1/images/one"); err == nil {
		t.Error("a host with another authority's certificate gets an image")
	}
	if _, err := imagesFrom(t, f.ca.peer("h2"), "h2", "h3", h.address).Get("http://h3/images/one"); err == nil || !strings.Contains(err.Error(), "h3.hosts.bulkhead") {
		t.Errorf("a host takes another for one that it is not: %v", err)
	}

	// The proxy ends although an image is on its way.
	resp, err = imagesFrom(t, f.ca.peer("h2"), "h2", "h1", h.address).Get("http://h1/images/endless")
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	h.stop()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("an image that was cut short seems whole")
	}
}

func TestHostWithoutAnAgentForImagesGivesNone(t *testing.T) {
	f := newFleet(t, "h1")
	if _, err := imagesFrom(t, f.ca.peer("h2"), "h2", "h1", f.hosts["h1"].address).Get("http://h1/images/one"); err == nil {
		t.Error("it gives one")
	}
}
