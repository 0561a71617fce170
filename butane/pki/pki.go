package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/kept"
	"bulkhead/internal/sealed"
)

// Directory is an operator's directory of certificates.
type Directory struct {
	path        string
	now         func() time.Time
	authorities map[string]pair
}

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Change is a certificate that was made, and why.
type Change struct {
	Name   string // below the directory: hosts/h1/agent
	Reason string
}

// Exists reports whether a directory holds any of a cluster's authorities.
func Exists(dir string) bool {
	return slices.ContainsFunc(authorities, func(name string) bool { return there(filepath.Join(dir, name+".crt")) })
}

var authorities = []string{EtcdCA, EtcdPeerCA, PeerCA}

func there(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// Open opens a directory, and makes it and its authorities if they aren't
// there. It refuses one that others than its owner can read, and an authority
// of which half is missing: another in its place would know no certificate that
// is in use.
func Open(dir string) (*Directory, error) { return open(dir, time.Now) }

func open(dir string, now func() time.Time) (*Directory, error) {
	d := &Directory{path: dir, now: now, authorities: map[string]pair{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory for certificates: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the directory for certificates: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("cannot keep keys in %s: its mode is %o, so others can look in; want 700 (chmod 700 %s)", dir, info.Mode().Perm(), dir)
	}
	if !Exists(dir) {
		if err := d.makeRing(); err != nil {
			return nil, err
		}
	}
	for _, name := range authorities {
		p, err := d.read(name)
		path := filepath.Join(dir, name)
		switch crt, key := there(path+".crt"), there(path+".key"); {
		case !crt && !key:
			p, err = d.makeAuthority(name)
		case !crt || !key:
			err = fmt.Errorf("cannot use authority %s: of %s.crt and .key one is missing: restore it from a backup, or remove both to have another made and then every certificate anew", name, path)
		}
		if err != nil {
			return nil, err
		}
		d.authorities[name] = p
	}
	return d, nil
}

// Ensure makes every certificate that the fleet calls for and that is missing,
// about to expire or not as it should be, and returns those.
func (d *Directory) Ensure(f cluster.Fleet) ([]Change, error) {
	var changes []Change
	for _, w := range wants(f) {
		reason, err := d.due(w)
		if err != nil {
			return changes, err
		}
		if reason == "" {
			continue
		}
		if err := d.issue(w); err != nil {
			return changes, err
		}
		changes = append(changes, Change{w.name, reason})
	}
	return changes, nil
}

// due returns why a certificate is to be made; empty: it is good.
func (d *Directory) due(w wanted) (string, error) {
	p, err := d.read(w.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there was none", nil
	case errors.Is(err, errKey):
		return "its key is another's", nil
	case err != nil:
		return "", err
	}
	return w.why(p.cert, d.authorities[w.authority].cert, d.now()), nil
}

// File is a file that goes to a host.
type File struct {
	Name string // agent.crt
	Data []byte
}

// Host returns what a host gets: its own certificates and keys, and of the
// authorities that it must know the certificates alone.
func (d *Directory) Host(h cluster.FleetHost) ([]File, error) {
	var files []File
	add := func(path, name string) error {
		data, err := os.ReadFile(filepath.Join(d.path, path))
		if err != nil {
			return fmt.Errorf("cannot read what host %s gets: %w", h.Name, err)
		}
		files = append(files, File{name, data})
		return nil
	}
	if h.Is(cluster.RoleHost) && there(filepath.Join(d.path, Ring)) {
		if err := add(Ring, Ring); err != nil {
			return nil, err
		}
	}
	known := map[string]bool{}
	for _, w := range hostWants(h) {
		if !known[w.authority] {
			known[w.authority] = true
			if err := add(w.authority+".crt", w.authority+".crt"); err != nil {
				return nil, err
			}
		}
		for _, ending := range []string{".crt", ".key"} {
			if err := add(w.name+ending, filepath.Base(w.name)+ending); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// makeRing makes the keys that open a new cluster's secrets. One that has been
// without, or has lost them, gets none by itself: others would open nothing.
func (d *Directory) makeRing() error {
	path := filepath.Join(d.path, Ring)
	if there(path) {
		return nil
	}
	ring, err := sealed.NewRing()
	if err != nil {
		return err
	}
	return sealed.File{Path: path}.Write(ring)
}

func (d *Directory) makeAuthority(name string) (pair, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "bulkhead " + name}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return d.sign(name, template, authorityLife, nil)
}

func (d *Directory) issue(w wanted) error {
	authority := d.authorities[w.authority]
	_, err := d.sign(w.name, &x509.Certificate{
		Subject: pkix.Name{CommonName: w.common}, DNSNames: w.dns, IPAddresses: w.ips,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: w.usage, BasicConstraintsValid: true,
	}, life, &authority)
	return err
}

// sign makes a key and its certificate and writes both; without a signer it
// signs itself.
func (d *Directory) sign(name string, c *x509.Certificate, life time.Duration, signer *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("cannot make a key for %s: %w", name, err)
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return pair{}, fmt.Errorf("cannot make certificate %s: %w", name, err)
	}
	c.NotBefore, c.NotAfter = d.now().Add(-early), d.now().Add(life)
	parent, by := c, key
	if signer != nil {
		parent, by = signer.cert, signer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		return pair{}, fmt.Errorf("cannot make certificate %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, fmt.Errorf("cannot make certificate %s: %w", name, err)
	}
	return pair{cert, key}, d.write(name, der, key)
}

// write writes both files. One of them alone, should we be killed in between,
// is noticed when they are read.
func (d *Directory) write(name string, der []byte, key *ecdsa.PrivateKey) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("cannot encode the key of %s: %w", name, err)
	}
	path := filepath.Join(d.path, name)
	err = errors.Join(
		os.MkdirAll(filepath.Dir(path), 0o700),
		kept.Write(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		kept.Write(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
	)
	if err != nil {
		return fmt.Errorf("cannot write certificate %s: %w", name, err)
	}
	return nil
}

// errKey: a certificate and its key don't belong together.
var errKey = errors.New("its key is another's")

// read reads a certificate with its key, which must belong together. Its error
// wraps [fs.ErrNotExist] when one of the files isn't there.
func (d *Directory) read(name string) (pair, error) {
	path := filepath.Join(d.path, name)
	cert, err := readPEM(path+".crt", x509.ParseCertificate)
	if err != nil {
		return pair{}, err
	}
	private, err := readPEM(path+".key", x509.ParsePKCS8PrivateKey)
	if err != nil {
		return pair{}, err
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return pair{}, fmt.Errorf("cannot use certificate %s: %w: restore both from a backup", path, errKey)
	}
	return pair{cert, key}, nil
}

func readPEM[T any](file string, parse func([]byte) (T, error)) (value T, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return value, fmt.Errorf("cannot read: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return value, fmt.Errorf("cannot read %s: it is not PEM", file)
	}
	if value, err = parse(block.Bytes); err != nil {
		return value, fmt.Errorf("cannot read %s: %w", file, err)
	}
	return value, nil
}
