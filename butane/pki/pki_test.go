package pki

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

func testFleet() cluster.Fleet {
	f := cluster.DefaultFleet()
	f.Hosts = []cluster.FleetHost{
		{Name: "h1", Address: "10.0.0.1", Roles: []string{"control", "host"}},
		{Name: "h2", Address: "10.0.0.2", Roles: []string{"host"}},
	}
	return f
}

// at opens a directory some time from now.
func at(t *testing.T, dir string, later time.Duration) *Directory {
	t.Helper()
	d, err := open(dir, func() time.Time { return time.Now().Add(later) })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ensure(t *testing.T, d *Directory, f cluster.Fleet) map[string]string {
	t.Helper()
	changes, err := d.Ensure(f)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]string{}
	for _, c := range changes {
		made[c.Name] = c.Reason
	}
	return made
}

const day = 24 * time.Hour

func TestCertificatesAreMadeOnceAndRenewedInTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	f := testFleet()
	if made := ensure(t, at(t, dir, 0), f); len(made) != 1+6+3 {
		t.Errorf("made at first: %v", made)
	}
	if made := ensure(t, at(t, dir, 200*day), f); len(made) != 0 {
		t.Errorf("made again with more than a third of their life left: %v", made)
	}
	if made := ensure(t, at(t, dir, 250*day), f); len(made) != 10 || made["root"] != "a third of its life or less is left" {
		t.Errorf("made when less than a third of their life is left: %v", made)
	}
	f.Hosts[0].Address = "10.0.0.9"
	if made := ensure(t, at(t, dir, 0), f); len(made) != 2 || made["hosts/h1/etcd-peer"] == "" || made["hosts/h1/etcd-server"] == "" {
		t.Errorf("made for another address: %v", made)
	}
	key := filepath.Join(dir, "hosts/h2/agent.key")
	other, err := os.ReadFile(filepath.Join(dir, "hosts/h2/proxy.key"))
	if err == nil {
		err = os.WriteFile(key, other, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if made := ensure(t, at(t, dir, 0), f); len(made) != 1 || made["hosts/h2/agent"] != "its key is another's" {
		t.Errorf("made for a wrong key: %v", made)
	}
}

func TestCertificatesAreGoodForWhatTheyAreForAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	d := at(t, dir, 0)
	f := testFleet()
	ensure(t, d, f)
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	for _, c := range []struct {
		name      string
		authority string
		usage     x509.ExtKeyUsage
		dns       string
		ok        bool
	}{
		{"root", EtcdCA, client, "", true},
		{"root", EtcdCA, server, "", false},
		{"root", EtcdPeerCA, client, "", false},
		{"hosts/h1/etcd-server", EtcdCA, server, "localhost", true},
		{"hosts/h1/etcd-server", EtcdCA, client, "", false},
		{"hosts/h1/etcd-peer", EtcdPeerCA, client, "", true},
		{"hosts/h1/etcd-peer", EtcdCA, client, "", false},
		{"hosts/h1/agent", EtcdCA, client, "", true},
		{"hosts/h1/agent", EtcdPeerCA, client, "", false},
		{"hosts/h1/agent", EtcdCA, server, "", false},
		{"hosts/h1/peer", PeerCA, server, "h1.hosts.bulkhead", true},
		{"hosts/h1/peer", PeerCA, server, "h2.hosts.bulkhead", false},
		{"hosts/h1/peer", EtcdCA, client, "", false},
	} {
		p, err := d.read(c.name)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(d.authorities[c.authority].cert)
		_, err = p.cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{c.usage}, DNSName: c.dns})
		if (err == nil) != c.ok {
			t.Errorf("%s by %s, usage %v, name %q: %v", c.name, c.authority, c.usage, c.dns, err)
		}
	}
	for name, want := range map[string]string{"root": "root", "hosts/h2/agent": "agent-h2", "hosts/h2/proxy": "proxy-h2", "hosts/h1/scheduler": "scheduler", "hosts/h2/peer": "h2.hosts.bulkhead"} {
		if p, err := d.read(name); err != nil || p.cert.Subject.CommonName != want {
			t.Errorf("%s is %v, want %s: %v", name, p.cert.Subject, want, err)
		}
	}
}

func TestOthersCannotLookIn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	ensure(t, at(t, dir, 0), testFleet())
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && (e.IsDir() || strings.HasSuffix(path, ".key")) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a directory that others can read: %v", err)
	}
}

func TestAuthorityOfWhichHalfIsMissingIsNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if Exists(dir) {
		t.Error("it is there before it is made")
	}
	ensure(t, at(t, dir, 0), testFleet())
	if !Exists(dir) {
		t.Error("it is not there")
	}
	for _, ending := range []string{".key", ".crt"} {
		file := filepath.Join(dir, EtcdCA+ending)
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("without %s: %v", file, err)
		}
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err != nil {
		t.Error(err)
	}
}

func TestListSaysWhenEachExpires(t *testing.T) {
	d := at(t, filepath.Join(t.TempDir(), "pki"), 0)
	ensure(t, d, testFleet())
	list, err := d.List()
	if err != nil || len(list) != 3+10 {
		t.Fatalf("%d certificates, %v", len(list), err)
	}
	for _, c := range list {
		if left := time.Until(c.Expires); left < 364*day || !c.RenewAt.Before(c.Expires) {
			t.Errorf("%s expires in %v, renewal from %v on", c.Name, left, c.RenewAt)
		}
	}
}
