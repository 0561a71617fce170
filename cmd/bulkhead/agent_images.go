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
	"bulkhead/agent/archives"
	"bulkhead/agent/docker"
	"bulkhead/agent/images"
	"bulkhead/agent/sets"
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

// openModules opens the host's store of npm modules, which gets what it lacks from
// hosts that dial reaches.
func openModules(state string, dial archives.Dial, log *slog.Logger) (*sets.Keeper, error) {
	store, err := sets.Open(sets.Dir(state))
	if err != nil {
		return nil, fail(exitFailure, "see to the disk, and to who owns what is there", "%w", err)
	}
	return sets.NewKeeper(store, dial, log.With("part", "modules")), nil
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
	if err := os.MkdirAll(filepath.Dir(archives.Socket(run)), 0o711); err != nil {
		return fmt.Errorf("cannot make a place where hosts ask for images: %w", err)
	}
	return nil
}

// giveArchives gives other hosts images and sets of modules until ctx ends. Where
// that can't be, they get them elsewhere.
func giveArchives(ctx context.Context, run string, engine *docker.Engine, store *sets.Store, log *slog.Logger) {
	err := imagesDir(run)
	if err == nil {
		var ln net.Listener
		if ln, err = archives.Listen(archives.Socket(run), agent.ProxyUID); err == nil {
			err = archives.NewServer(log, images.Kind(engine), sets.Kind(store)).Serve(ctx, ln)
		}
	}
	if err != nil && ctx.Err() == nil {
		log.Error("other hosts get no images and no modules from this one", "error", err)
	}
}
