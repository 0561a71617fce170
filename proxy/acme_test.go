package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/internal/frames/framestest"
)

// pebbleVersion is of Let's Encrypt's test server.
const pebbleVersion = "v2.10.3"

// certificateAuthority is pebble, an ACME server, which finds every name at
// 127.0.0.1.
type certificateAuthority struct {
	directory string // its URL
	roots     string // PEM file: who signs for that
	issuer    func() *x509.CertPool
}

// startACME runs one that asks for challenges at these ports.
func startACME(t *testing.T, httpPort, tlsPort int) certificateAuthority {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"pebble", "pebble-challtestsrv"} {
		install := exec.Command("go", "install", "github.com/letsencrypt/pebble/v2/cmd/"+name+"@"+pebbleVersion)
		install.Env, install.Dir = append(os.Environ(), "GOBIN="+bin, "GOFLAGS="), bin
		if out, err := install.CombinedOutput(); err != nil {
			t.Skipf("no ACME server can be built here: %v\n%s", err, out)
		}
	}
	ca := newAuthority(t)
	cert, key := ca.issue("acme", "localhost")
	api, management, dns, control := freePort(t), freePort(t), freePort(t), freePort(t)
	local := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": local(api), "managementListenAddress": local(management), "certificate": cert, "privateKey": key,
		"httpPort": httpPort, "tlsPort": tlsPort, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "default", "validityPeriod": 7776000}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(bin, "config.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	runServer(t, local(control), filepath.Join(bin, "pebble-challtestsrv"), "-dnsserver", local(dns), "-management", local(control), "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	runServer(t, local(api), filepath.Join(bin, "pebble"), "-config", file, "-dnsserver", local(dns))
	connectable(t, local(management))
	return certificateAuthority{
		directory: fmt.Sprintf("https://localhost:%d/dir", api), roots: ca.file,
		issuer: func() *x509.CertPool {
			c := privateClient(ca.pool())
			defer c.CloseIdleConnections()
			resp, err := c.Get(fmt.Sprintf("https://localhost:%d/roots/0", management))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			pem, _ := io.ReadAll(resp.Body)
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(pem) {
				t.Fatalf("no root in %s", pem)
			}
			return pool
		},
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// runServer runs a program until the test ends, and returns once it listens.
func runServer(t *testing.T, address, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			t.Log(lines.Text())
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
	})
	connectable(t, address)
}

// connectable returns once somebody listens.
func connectable(t *testing.T, address string) {
	t.Helper()
	for t.Context().Err() == nil {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return
		}
	}
}

func TestCertificatesComeFromACMEForDomainAndTenants(t *testing.T) {
	for _, challenge := range []string{"over HTTP", "over TLS"} {
		t.Run(challenge, func(t *testing.T) {
			plain, secure := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
			httpPort, tlsPort := plain.Addr().(*net.TCPAddr).Port, freePort(t) // where nobody is
			if challenge == "over TLS" {
				httpPort, tlsPort = freePort(t), secure.Addr().(*net.TCPAddr).Port
			}
			ca := startACME(t, httpPort, tlsPort)
			options := Options{Domain: "example.org", ACME: &ACME{Email: "ops@example.org", Directory: ca.directory, CA: ca.roots, Dir: filepath.Join(t.TempDir(), "acme")}}
			p := startWith(t, options, func(p *Proxy, unused net.Listener) error {
				unused.Close()
				done := make(chan error)
				go func() { done <- p.Serve(plain) }()
				err := p.ServeTLS(secure)
				if other := <-done; err == nil {
					err = other
				}
				return err
			})
			set(p.table, ready(framestest.Listen(t, says("ok"))))
			s := secureProxy{testProxy: p}
			s.addr = secure.Addr().String()
			for name, want := range map[string]string{"example.org": "", "acme.example.org": "", "globex.example.org": "internal error", "example.com": "internal error"} {
				c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: name, InsecureSkipVerify: true}) // it is verified below
				if want != "" {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: got %v, want %s", name, err, want)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				chain := c.ConnectionState().PeerCertificates
				c.Close()
				between := x509.NewCertPool()
				for _, c := range chain[1:] {
					between.AddCert(c)
				}
				if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: ca.issuer(), Intermediates: between}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if resp, err := http.Get("http://" + plain.Addr().String() + challengePath + "unknown"); err != nil || resp.StatusCode == 200 {
				t.Errorf("a challenge that is none: got %v %v", resp, err)
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
}
