package modules

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// toolchainPackages are what install scripts and node-gyp find besides Node.
const toolchainPackages = "gcc,g++,make,python3,libc6-dev"

// toolchainWithin is how long making the image may take.
const toolchainWithin = 20 * time.Minute

// toolchain returns the image that install scripts run in, and makes it where
// Docker does not have it: the release of Debian or Ubuntu that this machine runs,
// and that the runtime image's libraries come from, so that what is compiled here
// finds its C library there.
func toolchain(ctx context.Context, docker *client.Client, dir string) (string, error) {
	release, err := machineRelease("/etc/os-release")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(release + " " + toolchainPackages))
	tag := "bulkhead-toolchain:" + hex.EncodeToString(sum[:6])
	if _, err := docker.ImageInspect(ctx, tag); err == nil {
		return tag, nil
	} else if !cerrdefs.IsNotFound(err) {
		return "", fmt.Errorf("cannot look for the image with the compilers: %w", err)
	}
	tarball := filepath.Join(dir, "toolchain.tar")
	defer os.Remove(tarball)
	if err := debootstrap(ctx, release, tarball); err != nil {
		return "", err
	}
	f, err := os.Open(tarball)
	if err != nil {
		return "", fmt.Errorf("cannot import the image with the compilers: %w", err)
	}
	defer f.Close()
	said, err := docker.ImageImport(ctx, image.ImportSource{Source: f, SourceName: "-"}, tag, image.ImportOptions{})
	if err != nil {
		return "", fmt.Errorf("cannot import the image with the compilers: %w", err)
	}
	defer said.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(said); err != nil || strings.Contains(out.String(), `"error"`) {
		return "", fmt.Errorf("cannot import the image with the compilers: %w %s", err, out.String())
	}
	return tag, nil
}

func debootstrap(ctx context.Context, release, tarball string) error {
	program, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return fmt.Errorf("cannot make the image with the compilers: mmdebstrap is not installed (Debian and Ubuntu: apt-get install mmdebstrap), or name an image that Docker has: bulkhead builder --toolchain IMAGE")
	}
	ctx, cancel := context.WithTimeout(ctx, toolchainWithin)
	defer cancel()
	var stderr tail
	cmd := exec.CommandContext(ctx, program, "--quiet", "--variant=minbase", "--include="+toolchainPackages,
		`--aptopt=Acquire::Languages "none"`, `--aptopt=APT::Install-Recommends "false"`,
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		release, tarball)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		return fmt.Errorf("cannot make the image with the compilers: mmdebstrap: %w: %s", err, said[strings.LastIndexByte(said, '\n')+1:])
	}
	return nil
}

// machineRelease is the code name of the machine's system (os-release(5)).
func machineRelease(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot tell this machine's release: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", fmt.Errorf("cannot make the image with the compilers: %s names no release of Debian or Ubuntu; name an image that Docker has: bulkhead builder --toolchain IMAGE", file)
}
