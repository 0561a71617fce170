package pki

import (
	"crypto/x509"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// Certificate is one that the directory holds.
type Certificate struct {
	Name    string    `json:"name"` // below the directory: hosts/h1/agent
	Subject string    `json:"subject"`
	Signer  string    `json:"signer"`
	Names   []string  `json:"names,omitempty"` // DNS names and IP addresses that it is good for
	Expires time.Time `json:"expires"`
	RenewAt time.Time `json:"renew_at"` // from then on it is made anew when asked
}

// List returns all certificates in the directory, sorted by name.
func (d *Directory) List() ([]Certificate, error) {
	var all []Certificate
	err := filepath.WalkDir(d.path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".crt") {
			return err
		}
		c, err := readPEM(path, x509.ParseCertificate)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(d.path, strings.TrimSuffix(path, ".crt"))
		if err != nil {
			return err
		}
		one := Certificate{Name: name, Subject: c.Subject.CommonName, Signer: c.Issuer.CommonName, Names: c.DNSNames, Expires: c.NotAfter, RenewAt: renewAt(c)}
		for _, ip := range c.IPAddresses {
			one.Names = append(one.Names, ip.String())
		}
		all = append(all, one)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list certificates: %w", err)
	}
	return all, nil
}
