package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
)

// Binaries are what every host gets, by name: what a release consists of.
var Binaries = []string{"bulkhead", "bulkhead-runner", "bulkhead-cell", "bulkhead-jail"}

// ReleaseManifest says what a release consists of. As text it is the file
// release-<digest>.json among the artifacts, and manifest.json beside the
// binaries on a host.
type ReleaseManifest struct {
	Files map[string]string `json:"files"` // SHA-256 in hex, by name
}

// Text is the manifest as a file holds it: the same for the same files.
func (m ReleaseManifest) Text() []byte {
	data, _ := json.Marshal(m) // texts do; the names are sorted
	return append(data, '\n')
}

// Digest names the release: sha256:… of its text.
func (m ReleaseManifest) Digest() string {
	sum := sha256.Sum256(m.Text())
	return "sha256:" + hex.EncodeToString(sum[:])
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// DecodeReleaseManifest reads a manifest of the release of this digest. The
// error says what is wrong with it.
func DecodeReleaseManifest(text []byte, digest string) (ReleaseManifest, error) {
	var m ReleaseManifest
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("cannot decode the manifest of release %s: %w", digest, err)
	}
	if got := m.Digest(); got != digest {
		return m, fmt.Errorf("cannot use the manifest of release %s: it is that of %s", digest, got)
	}
	for name, sum := range m.Files {
		if !slices.Contains(Binaries, name) || !hexDigest.MatchString(sum) {
			return m, fmt.Errorf("cannot use the manifest of release %s: %q with digest %q: want %v with SHA-256 in hex", digest, name, sum, Binaries)
		}
	}
	if len(m.Files) != len(Binaries) {
		return m, fmt.Errorf("cannot use the manifest of release %s: it has %d files, want %v", digest, len(m.Files), Binaries)
	}
	return m, nil
}

// ReleaseDir is the name of a release's directory on a host.
func ReleaseDir(digest string) string { return digest[len("sha256:"):][:12] }

// CheckRelease refuses what is no release's digest.
func CheckRelease(digest string) error {
	sum, ok := bytes.CutPrefix([]byte(digest), []byte("sha256:"))
	if !ok || !hexDigest.Match(sum) {
		return fmt.Errorf("%q names no release: want sha256: and 64 hexadecimal digits", digest)
	}
	return nil
}
