package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"

	letsencrypt "golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME says how certificates for clients are got from a certificate authority
// (RFC 8555), for the domain and {tenant}.{domain} of tenants that are placed
// somewhere. To use it is to accept the authority's terms of service.
type ACME struct {
	Email     string // whom the authority may tell of problems; may be empty
	Directory string // the authority's URL; empty: Let's Encrypt
	CA        string // PEM: who signs for that URL; empty: who the system trusts
	Dir       string // where the account's key and certificates are kept
}

// acme gets certificates when a client asks for a name for the first time, and
// renews them before they end.
type acme struct {
	manager *autocert.Manager
	http    http.Handler
	ours    func(name string) bool
	say     func(error)
}

func newACME(o ACME, domain string, has func(tenant string) bool, say func(error)) (*acme, error) {
	if domain == "" {
		return nil, errors.New("cannot use ACME without a domain: there is nothing to ask a certificate for")
	}
	client := &letsencrypt.Client{DirectoryURL: o.Directory}
	if o.CA != "" {
		roots, err := readRoots(o.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot use ACME: %w", err)
		}
		client.HTTPClient = privateClient(roots)
	}
	a := &acme{say: say, ours: func(name string) bool {
		tenant, ok := tenantOfHost(name, domain)
		return name == domain || ok && has(tenant)
	}}
	a.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Email: o.Email, Client: client, Cache: autocert.DirCache(o.Dir),
		HostPolicy: func(_ context.Context, name string) error {
			if !a.ours(name) {
				return fmt.Errorf("no certificate for %q: it is neither %s nor a tenant of it", name, domain)
			}
			return nil
		},
	}
	// From now on the manager answers challenges over HTTP, too.
	a.http = a.manager.HTTPHandler(http.NotFoundHandler())
	return a, nil
}

func privateClient(roots *x509.CertPool) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: t}
}

// configure has a server show the certificates, and answer the authority's
// challenges over TLS (RFC 8737).
func (a *acme) configure(config *tls.Config) {
	config.GetCertificate = a.get
	config.NextProtos = append(slices.Clip(config.NextProtos), letsencrypt.ALPNProto)
}

// get returns the certificate for the name that a client asks for. That there
// is none for a name of ours is said: nobody else would.
func (a *acme) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := a.manager.GetCertificate(hello)
	if err != nil && a.ours(hello.ServerName) {
		a.say(fmt.Errorf("cannot get a certificate for %s: %w", hello.ServerName, err))
	}
	return c, err
}

// challenge answers the authority over HTTP (RFC 8555, section 8.3).
func (a *acme) challenge(path, authority string) (status int, body string) {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		authority = host
	}
	w := &answerWriter{header: http.Header{}, status: 200}
	a.http.ServeHTTP(w, &http.Request{Method: "GET", Host: authority, URL: &url.URL{Path: path}, Header: http.Header{}})
	return w.status, string(w.body)
}

// answerWriter keeps an answer.
type answerWriter struct {
	header http.Header
	status int
	body   []byte
}

// Header returns the answer's headers.
func (w *answerWriter) Header() http.Header { return w.header }

// WriteHeader takes the answer's status.
func (w *answerWriter) WriteHeader(status int) { w.status = status }

// Write takes some of its body.
func (w *answerWriter) Write(p []byte) (int, error) {
	w.body = append(w.body, p...)
	return len(p), nil
}
