package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/agent"
	"bulkhead/agent/docker"
	"bulkhead/agent/images"
	"bulkhead/proxy"
)

// orderedImage is the image that this host was told to run, whatever its flags
// say, if Docker still has it.
func (o agentOptions) orderedImage(ctx context.Context, engine *docker.Engine, log *slog.Logger) (string, error) {
	id, err := agent.OrderedImage(o.state)
	if err != nil || id == "" {
		return "", err
	}
	has, err := engine.HasImage(ctx, id)
	if err == nil && !has {
		log.Error("Docker lacks the image that this host was told to run: it runs the one that it was provisioned with", "lacks", id, "runs", o.image)
		return "", nil
	}
	return id, err
}

// fetcher is where this host gets images that it lacks.
func (o agentOptions) fetcher(engine *docker.Engine, provisioned string, log *slog.Logger) (images.Fetcher, error) {
	f := images.Fetcher{Engine: engine, Image: provisioned, File: o.imageFile, Artifacts: directory(o.artifacts), Log: log}
	if *o.files["peer-cert"] == "" {
		return f, nil
	}
	var err error
	f.Dial, err = proxy.ImageDialer(o.name, proxy.PeerFiles{CA: *o.files["peer-ca"], Cert: *o.files["peer-cert"], Key: *o.files["peer-key"]}, log)
	if err != nil {
		return f, fail(exitFailure, "mend what it names", "cannot get images from other hosts: %w", err)
	}
	return f, nil
}

// directory is a URL as that of a directory.
func directory(url string) string {
	if url == "" {
		return ""
	}
	return strings.TrimSuffix(url, "/") + "/"
}

// imagesDir makes the directory of the socket at which hosts ask for images:
// the proxy sees it as it is when it starts.
func imagesDir(run string) error {
	if err := os.MkdirAll(filepath.Dir(images.Socket(run)), 0o711); err != nil {
		return fmt.Errorf("cannot make a place where hosts ask for images: %w", err)
	}
	return nil
}

// giveImages gives other hosts images until ctx ends. Where that can't be, they
// get them elsewhere.
func giveImages(ctx context.Context, run string, engine *docker.Engine, log *slog.Logger) {
	err := imagesDir(run)
	if err == nil {
		var ln net.Listener
		if ln, err = images.Listen(images.Socket(run), agent.ProxyUID); err == nil {
			err = images.NewServer(engine, log).Serve(ctx, ln)
		}
	}
	if err != nil && ctx.Err() == nil {
		log.Error("other hosts get no images from this one", "error", err)
	}
}
