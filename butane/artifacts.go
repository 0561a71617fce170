package butane

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

// ImageFile is the name among the artifacts of the archive with the image that
// instances run, as "bulkhead image build" writes it.
const ImageFile = "image.tar"

// Artifacts are what hosts fetch, each known by its digest, so that it doesn't
// matter who serves it.
type Artifacts struct {
	SHA256 map[string]string // by name, in hex
	Image  string            // ID of the image in ImageFile
}

// ReadArtifacts reads the digests of the files in a directory.
func ReadArtifacts(dir string) (Artifacts, error) {
	a := Artifacts{SHA256: map[string]string{}}
	for _, name := range append([]string{ImageFile}, cluster.Binaries...) {
		sum, err := digest(filepath.Join(dir, name))
		if err != nil {
			return a, fmt.Errorf("cannot read artifact %s: %w", name, err)
		}
		a.SHA256[name] = sum
	}
	image, err := imageID(filepath.Join(dir, ImageFile))
	if err != nil {
		return a, fmt.Errorf("cannot tell which image %s holds: %w", ImageFile, err)
	}
	a.Image = image
	return a, nil
}

// Release is what the binaries are together.
func (a Artifacts) Release() cluster.ReleaseManifest {
	m := cluster.ReleaseManifest{Files: map[string]string{}}
	for _, name := range cluster.Binaries {
		m.Files[name] = a.SHA256[name]
	}
	return m
}

// Pack gives the artifacts in a directory second names, which tell them from
// those that come later: by these a host that runs already finds what a rollout
// wants it to have. It writes the release's manifest.
func (a Artifacts) Pack(dir string) error {
	m := a.Release()
	names := map[string]string{ImageFile: "image-" + strings.TrimPrefix(a.Image, "sha256:") + ".tar"}
	for name, sum := range m.Files {
		names[name] = name + "-" + sum
	}
	for from, to := range names {
		if err := copyFile(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			return fmt.Errorf("cannot pack %s: %w", from, err)
		}
	}
	manifest := filepath.Join(dir, "release-"+strings.TrimPrefix(m.Digest(), "sha256:")+".json")
	if err := kept.Write(manifest, m.Text(), 0o644); err != nil {
		return fmt.Errorf("cannot pack the release: %w", err)
	}
	return nil
}

// copyFile makes a copy, not a link: the next build may write into the first.
func copyFile(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil // whatever is there has that digest
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	half := filepath.Join(filepath.Dir(to), kept.HalfWritten+filepath.Base(to))
	out, err := os.OpenFile(half, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(half, to)
	}
	if err != nil {
		os.Remove(half)
	}
	return err
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// imageID reads from an archive for "docker load" the ID of its one image,
// which is the digest of its configuration and that file's name.
func imageID(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return "", errors.New("it has no manifest.json: is it an archive for docker load?")
		}
		if err != nil {
			return "", err
		}
		if head.Name != "manifest.json" {
			continue
		}
		var images []struct{ Config string }
		if err := json.NewDecoder(r).Decode(&images); err != nil {
			return "", err
		}
		if len(images) != 1 {
			return "", fmt.Errorf("it holds %d images, want one", len(images))
		}
		id := strings.TrimSuffix(images[0].Config, ".json")
		if sum, err := hex.DecodeString(id); err != nil || len(sum) != sha256.Size {
			return "", fmt.Errorf("%q is no image's digest", images[0].Config)
		}
		return "sha256:" + id, nil
	}
}
