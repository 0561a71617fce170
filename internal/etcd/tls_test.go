package etcd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"bulkhead/internal/etcd"
)

// authority signs certificates into files of a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = a.sign(name, a.cert)
	return a
}

// sign writes <name>.crt and <name>.key.
func (a *authority) sign(name string, c *x509.Certificate) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "EC PRIVATE KEY", private)
	return key
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "ca")
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	a.sign("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: usage})
	a.sign("scheduler", &x509.Certificate{ExtKeyUsage: usage})

	c := embed.NewConfig()
	c.Dir, c.LogLevel = t.TempDir(), "fatal"
	client, _ := url.Parse("https://127.0.0.1:0")
	peer, _ := url.Parse("http://127.0.0.1:0")
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ClientTLSInfo = transport.TLSInfo{
		CertFile: a.file("server.crt"), KeyFile: a.file("server.key"), TrustedCAFile: a.file("ca.crt"), ClientCertAuth: true,
	}
	server, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()

	good := etcd.Config{
		Endpoints: []string{"https://" + server.Clients[0].Addr().String()},
		CA:        a.file("ca.crt"), Cert: a.file("scheduler.crt"), Key: a.file("scheduler.key"),
	}
	cli, err := etcd.Open(good)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	if err := etcd.Reach(t.Context(), cli, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	other := newAuthority(t, "other")
	for sentence, bad := range map[string]etcd.Config{
		"a CA that didn't sign the server's certificate": {Endpoints: good.Endpoints, CA: other.file("other.crt"), Cert: good.Cert, Key: good.Key},
		"no certificate of ours":                         {Endpoints: good.Endpoints, CA: good.CA},
	} {
		cli, err := etcd.Open(bad)
		if err != nil {
			t.Fatal(err)
		}
		if etcd.Reach(t.Context(), cli, time.Second) == nil {
			t.Errorf("%s: accepted", sentence)
		}
		cli.Close()
	}
	for want, bad := range map[string]etcd.Config{
		"no endpoints given":     {},
		"only one is given":      {Endpoints: good.Endpoints, Cert: good.Cert},
		"no such file":           {Endpoints: good.Endpoints, CA: "/nowhere/ca.crt"},
		"cannot open etcd clien": {Endpoints: good.Endpoints, CA: good.Key},
	} {
		if _, err := etcd.Open(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", bad, err, want)
		}
	}
}
