package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/docker/docker/client"
)

// Docker takes the image under the ID that Build said.
func TestDockerLoadsWhatBuildWrote(t *testing.T) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		_, err = docker.Ping(t.Context())
	}
	if err != nil {
		if os.Getenv("BULKHEAD_REQUIRE_DOCKER") == "1" {
			t.Fatalf("BULKHEAD_REQUIRE_DOCKER=1, but Docker does not answer: %v", err)
		}
		t.Skipf("Docker does not answer, so nothing can be loaded into it: %v", err)
	}
	defer docker.Close()
	img, err := Build(t.Context(), Options{Cell: buildCell(t), Cache: buildCache(t), Out: filepath.Join(t.TempDir(), "image.tar")}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if err := Load(t.Context(), docker, img.Tar); err != nil {
		t.Fatal(err)
	}
	got, err := docker.ImageInspect(t.Context(), img.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != img.ID {
		t.Errorf("Docker calls it %s, Build %s", got.ID, img.ID)
	}
	// The binary finds its libraries in the image, and there is no shell.
	if b, err := exec.Command("docker", "run", "--rm", "--network=none", "--entrypoint=/usr/bin/node", img.ID, "-p", "process.version").CombinedOutput(); err != nil || string(b) != "v26.10.0\n" {
		t.Errorf("node in the image: %v: %s", err, b)
	}
	if err := exec.Command("docker", "run", "--rm", "--network=none", "--entrypoint=/bin/sh", img.ID).Run(); err == nil {
		t.Error("the image holds a shell")
	}
}
