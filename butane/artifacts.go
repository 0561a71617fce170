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
)

// Binaries are what every host gets, by name; ImageFile is the archive with
// the image that instances run, as "bulkhead image build" writes it.
var Binaries = []string{"bulkhead", "bulkhead-runner", "bulkhead-cell", "bulkhead-jail"}

// ImageFile is the archive's name among the artifacts.
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
	for _, name := range append([]string{ImageFile}, Binaries...) {
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
