// Package node builds the container image that tenants' code runs in, from
// nothing: the Node binary of the npm package that package-lock.json pins, the
// shared libraries that it needs, certificates, time zones, the harness
// (harness/*.js) and the cell as its entry point. It holds no shell and no
// package manager.
//
// It needs no registry and no builder: [Build] writes the tar that `docker
// load` takes, with sorted entries, fixed times and owners, so two builds from
// the same inputs give the same image ID. The libraries come from the machine
// that builds (Debian, Ubuntu): its updates reach tenants with the next build.
//
//	image.go      Build and Load
//	fetch.go      the Node binary: npm fetches, we verify
//	libraries.go  what the binary needs, by DT_NEEDED
//	layer.go      reproducible tar layers
package node

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

//go:embed harness/*.js
var harness embed.FS

// Where things are in the image; package cell knows the same places.
const (
	nodePath    = "usr/bin/node"
	harnessPath = "usr/lib/bulkhead/harness"
	cellPath    = "cell"
)

// Options say what to build from.
type Options struct {
	Cell  string // path of the static bulkhead-cell binary
	Cache string // directory for what was fetched; made when missing
	Out   string // the tar to write; default: image.tar in Cache
}

// Image is a built image.
type Image struct {
	ID  string // sha256:…, the digest of its configuration
	Tag string // bulkhead-node:<first 12 digits of the ID>, so that pruning spares it
	Tar string // path of what docker load takes
}

// Build makes the image and tells progress, a line a step.
func Build(ctx context.Context, o Options, progress io.Writer) (Image, error) {
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return Image{}, fmt.Errorf("cannot make the cache: %w", err)
	}
	node, err := Fetch(ctx, o.Cache, progress)
	if err != nil {
		return Image{}, err
	}
	step := stepper(progress)
	base, err := baseFiles(node)
	if err != nil {
		return Image{}, err
	}
	top, err := topFiles(o.Cell)
	if err != nil {
		return Image{}, err
	}
	var layers []layer
	for _, files := range [][]file{base, top} {
		l, err := writeLayer(o.Cache, files)
		if err != nil {
			return Image{}, err
		}
		defer os.Remove(l.path)
		layers = append(layers, l)
	}
	step("layers written: %d files, %d MiB", len(base)+len(top), (layers[0].size+layers[1].size)>>20)
	img, err := writeImage(cmp.Or(o.Out, filepath.Join(o.Cache, "image.tar")), layers)
	if err == nil {
		step("image %s written", img.Tag)
	}
	return img, err
}

// stepper prints lines with the time since the last one.
func stepper(w io.Writer) func(format string, args ...any) {
	last := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(w, "image: "+format+" (%v)\n", append(args, time.Since(last).Round(10*time.Millisecond))...)
		last = time.Now()
	}
}

// config is the part of an image's configuration that we say anything in
// (OCI image specification, config.md).
type config struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Created      string `json:"created"`
	Config       struct {
		User       string            `json:"User"`
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint"`
		WorkingDir string            `json:"WorkingDir"`
		StopSignal string            `json:"StopSignal"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

func configFor(layers []layer) ([]byte, error) {
	var c config
	c.Architecture, c.OS, c.Created = "amd64", "linux", "1970-01-01T00:00:00Z"
	c.Config.User = "65534:65534" // the agent always names another
	c.Config.Env = []string{"PATH=/usr/bin"}
	c.Config.Entrypoint = []string{"/" + cellPath}
	c.Config.WorkingDir = "/"
	c.Config.StopSignal = "SIGTERM"
	c.Config.Labels = map[string]string{"io.bulkhead.node": pinned().version}
	c.RootFS.Type = "layers"
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, "sha256:"+l.digest)
	}
	return json.Marshal(c)
}

// writeImage writes the archive that docker load takes.
func writeImage(out string, layers []layer) (img Image, err error) {
	conf, err := configFor(layers)
	if err != nil {
		return Image{}, err
	}
	sum := sha256.Sum256(conf)
	digest := hex.EncodeToString(sum[:])
	img = Image{ID: "sha256:" + digest, Tag: "bulkhead-node:" + digest[:12], Tar: out}
	manifest := []map[string]any{{"Config": digest + ".json", "RepoTags": []string{img.Tag}, "Layers": []string{layers[0].name(), layers[1].name()}}}
	list, err := json.Marshal(manifest)
	if err != nil {
		return Image{}, err
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return Image{}, fmt.Errorf("cannot write the image: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	w := tar.NewWriter(f)
	for _, l := range layers {
		if err := putFile(w, file{name: l.name(), mode: 0o644, source: l.path}); err != nil {
			return Image{}, err
		}
	}
	for _, e := range []file{{name: digest + ".json", mode: 0o644, body: conf}, {name: "manifest.json", mode: 0o644, body: list}} {
		if err := putFile(w, e); err != nil {
			return Image{}, err
		}
	}
	if err := w.Close(); err != nil {
		return Image{}, fmt.Errorf("cannot write the image: %w", err)
	}
	return img, os.Rename(f.Name(), out)
}

// Loader is what Load needs of a Docker client.
type Loader interface {
	ImageLoad(ctx context.Context, input io.Reader, opts ...client.ImageLoadOption) (image.LoadResponse, error)
}

// Load gives a built image to Docker.
func Load(ctx context.Context, docker Loader, tarPath string) error {
	f, err := os.Open(tarPath)
	if err != nil {
		return fmt.Errorf("cannot load the image: %w", err)
	}
	defer f.Close()
	resp, err := docker.ImageLoad(ctx, f, client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("cannot load the image: %w", err)
	}
	defer resp.Body.Close()
	// Docker reports what went wrong in the stream of an answer that says 200.
	dec := json.NewDecoder(resp.Body)
	for {
		var m struct {
			Error string `json:"error"`
		}
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("cannot load the image: %w", err)
		}
		if m.Error != "" {
			return fmt.Errorf("cannot load the image: docker says: %s", m.Error)
		}
	}
}
