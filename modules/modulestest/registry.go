// Package modulestest runs registries of npm packages inside tests, which the real
// npm talks to.
package modulestest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Registry is a registry of the test's own, which npm is made to use.
type Registry struct {
	*httptest.Server
	mu       sync.Mutex
	packages map[string]map[string]published // by name and version
	latest   map[string]string               // by name: what was published last
	asked    []string                        // paths that it was asked for
}

// published is a version of a package.
type published struct {
	manifest map[string]any
	tarball  []byte
	sum      string // that the registry says it has
}

// New starts a registry and has npm use it, with no configuration but that.
func New(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{packages: map[string]map[string]published{}, latest: map[string]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	t.Setenv("npm_config_registry", r.URL+"/")
	t.Setenv("npm_config_fetch_retries", "0")
	t.Setenv("npm_config_userconfig", filepath.Join(t.TempDir(), "npmrc"))
	return r
}

// Publish adds a version; files are what is in it besides package.json.
func (r *Registry) Publish(name, version string, manifest map[string]any, files map[string]string) {
	m := map[string]any{"name": name, "version": version, "main": "index.js"}
	for k, v := range manifest {
		m[k] = v
	}
	data, _ := json.Marshal(m)
	all := map[string]string{"package.json": string(data), "index.js": fmt.Sprintf("module.exports = %q", name+"@"+version)}
	for k, v := range files {
		all[k] = v
	}
	tgz := tarball(all)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.packages[name] == nil {
		r.packages[name] = map[string]published{}
	}
	r.packages[name][version], r.latest[name] = published{m, tgz, sri(tgz)}, version
}

// Tamper has the registry serve another tarball than it says.
func (r *Registry) Tamper(name, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.packages[name][version]
	p.tarball = tarball(map[string]string{"package.json": `{"name":"` + name + `","version":"` + version + `"}`, "index.js": "evil()"})
	r.packages[name][version] = p
}

func sri(data []byte) string {
	sum := sha512.Sum512(data)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func tarball(files map[string]string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		mode := int64(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		_ = w.WriteHeader(&tar.Header{Name: "package/" + name, Mode: mode, Size: int64(len(text)), Typeflag: tar.TypeReg})
		_, _ = w.Write([]byte(text))
	}
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}

// ServeHTTP answers as a registry does: a package's document, or a tarball.
func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, _ := url.PathUnescape(q.URL.EscapedPath())
	p = strings.TrimPrefix(p, "/")
	r.asked = append(r.asked, p)
	if name, file, ok := strings.Cut(p, "/-/"); ok {
		_, _ = w.Write(r.packages[name][strings.TrimSuffix(file, ".tgz")].tarball)
		return
	}
	if r.packages[p] == nil {
		http.Error(w, `{"error":"not found"}`, http.StatusNotFound)
		return
	}
	all := map[string]any{}
	for v, one := range r.packages[p] {
		m := map[string]any{"dist": map[string]any{"tarball": r.URL + "/" + p + "/-/" + v + ".tgz", "integrity": one.sum}}
		for k, value := range one.manifest {
			m[k] = value
		}
		if scripts, _ := one.manifest["scripts"].(map[string]string); scripts["install"] != "" || scripts["postinstall"] != "" {
			m["hasInstallScript"] = true
		}
		all[v] = m
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"name": p, "dist-tags": map[string]string{"latest": r.latest[p]}, "versions": all})
}

// Asked are the paths that the registry was asked for.
func (r *Registry) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

// Was reports whether the registry was asked for anything that begins so.
func (r *Registry) Was(asked string) bool {
	return slices.ContainsFunc(r.Asked(), func(p string) bool { return strings.HasPrefix(p, asked) })
}
