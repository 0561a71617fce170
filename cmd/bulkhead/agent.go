package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/agent/archives"
	"bulkhead/agent/docker"
	"bulkhead/agent/fleetlock"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

// agentOptions say how a host of a cluster runs its agent.
type agentOptions struct {
	hostOptions
	imageFile           string // archive with the image, for a Docker that lacks it
	proxyCert, proxyKey string // the proxy's own certificate for etcd
	lock                string // where this machine's own updates ask for their turn
	artifacts           string // URL of where images and releases are
	flatcar             string // group in whose turn Flatcar's updates reboot this host
}

func newAgent(a *app) *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a host's agent (run by its unit)",
		Long: `agent makes what is placed on this host run, and keeps the host's proxy running
as a unit of its own. It waits for the Docker Engine. While etcd is away it goes
on with what was desired last, which it keeps on disk. Ended, it leaves
instances and proxy as they are, for the next agent to take over.`,
		Example: `  bulkhead agent --host h1 --label zone=a --listen 0.0.0.0:80 --address 10.0.0.1:8443 \
    --image sha256:… --image-file /opt/bulkhead/image.tar --endpoints https://10.0.0.1:2379 \
    --cacert ca.crt --cert agent.crt --key agent.key --proxy-cert proxy.crt --proxy-key proxy.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runAgent(cmd.Context(), o) },
	}
	o.placeFlags(cmd)
	o.hostFlags(cmd)
	f := cmd.Flags()
	o.clusterFlags(f)
	f.StringVar(&o.imageFile, "image-file", "", "file: an archive with the image, loaded when Docker lacks it")
	f.StringVar(&o.proxyCert, "proxy-cert", "", "file: the proxy's certificate for etcd, which it must be able to read")
	f.StringVar(&o.proxyKey, "proxy-key", "", "file: its private key")
	f.StringVar(&o.artifacts, "artifacts", "", "URL of the directory with images (image-<id>.tar) and releases (release-<digest>.json) that the host may be told to have; empty: images come from other hosts only")
	f.StringVar(&o.flatcar, "update-engine-group", "", "group of hosts that take turns: reboot this host in its turn when Flatcar's update-engine has an update; empty: leave update-engine alone")
	f.StringVar(&o.lock, "lock", "127.0.0.1:8090", "address on loopback where this machine's own updates ask for their turn to reboot (the FleetLock protocol); empty: nowhere")
	return cmd
}

func (a *app) runAgent(ctx context.Context, o agentOptions) error {
	log := slog.New(slog.NewTextHandler(a.stdio.err, nil))
	if err := o.check("bulkhead agent"); err != nil {
		return err
	}
	if (o.proxyCert == "") != (o.proxyKey == "") {
		return fail(exitUsage, "give both --proxy-cert and --proxy-key, or neither", "a certificate and its key come together: only one is given")
	}
	if err := checkLoopback("--lock", o.lock); err != nil {
		return err
	}
	cli, err := etcd.Open(a.etcdConfig())
	if err != nil {
		return usageError(err)
	}
	defer cli.Close()
	engine, err := awaitEngine(ctx, o.name, log)
	if err != nil || engine == nil {
		return err
	}
	defer engine.Close()
	ordered, err := o.orderedImage(ctx, engine, log)
	if err != nil {
		return err
	}
	provisioned := o.image
	if ordered != "" {
		o.image = ordered
	} else if err := loadImage(ctx, engine, o.image, o.imageFile, log); err != nil {
		return err
	}
	host, err := thisHost(ctx, o.hostOptions, engine)
	if err != nil {
		return err
	}
	services, closeServices, err := openServices(ctx, o.hostOptions, log)
	if err != nil {
		return err
	}
	defer closeServices()
	if err := imagesDir(o.run); err != nil {
		return err
	}
	fetcher, err := o.fetcher(engine, provisioned, log.With("part", "images"))
	if err != nil {
		return err
	}
	replaceProxy, err := startProxy(ctx, o.hostOptions, host, services, a.proxyOverNetwork(o))
	if err != nil {
		return err
	}
	p := parts{hostOptions: o.hostOptions, host: host, etcd: cli, services: services, engine: engine, log: log, fetch: fetcher.Fetch, opening: sealed.File{Path: a.opening, KMS: a.kms}}
	if p.modules, err = openModules(o.state, fetcher.Dial, log); err != nil {
		return err
	}
	p.releases = o.releases(&p.host, services, log.With("part", "releases"))
	return runAgent(ctx, p, o, replaceProxy)
}

// runAgent runs the agent alone, and tells systemd how it is. Beside that it has
// the proxy replaced: without an agent a host would be taken for dead meanwhile.
// When both are done, the release has proved itself.
func runAgent(ctx context.Context, p parts, o agentOptions, replaceProxy func(context.Context) error) error {
	ag, err := p.newAgent()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel(nil)
	work.Go(func() {
		if err := replaceProxy(ctx); err != nil && ctx.Err() == nil {
			cancel(fmt.Errorf("cannot replace the proxy: %w", err))
			return
		}
		select {
		case <-ag.Ready():
		case <-ctx.Done():
		}
		if err := p.proveRelease(ctx); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	work.Go(func() { keepWatchdog(ctx, ag.Alive) })
	work.Go(func() { giveArchives(ctx, p.run, p.engine, p.modules.Store, p.log.With("part", "images")) })
	work.Go(func() {
		turn := fleetlock.Turn{Host: p.host.Name, Etcd: p.etcd, Order: ag.Orders().Current}
		o.updates(ctx, turn, p)
	})
	work.Go(func() {
		select {
		case <-ag.Ready():
			notifyStatus("has looked at host " + p.host.Name)
			notifyReady()
		case <-ctx.Done():
		}
	})
	if err := ag.Run(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if ctx.Err() == nil {
		return errors.New("the agent ended: it should not")
	}
	return nil
}

// engineEvery is how often to look for a Docker Engine that isn't there yet.
const engineEvery = time.Second

// awaitEngine waits until Docker answers; nil when ctx ended first.
func awaitEngine(ctx context.Context, host string, log *slog.Logger) (*docker.Engine, error) {
	for said := ""; ; {
		engine, err := openEngine(ctx, host, log)
		if err == nil {
			return engine, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		if text := err.Error(); text != said {
			said = text
			log.Warn("waiting for the Docker Engine: start it with systemctl start docker, or see why it ends with journalctl -u docker", "error", err)
			notifyStatus("waiting for the Docker Engine: " + text)
		}
		select {
		case <-time.After(engineEvery):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// loadImage gives Docker the image from an archive if it lacks it.
func loadImage(ctx context.Context, engine *docker.Engine, id, file string, log *slog.Logger) error {
	if id == "" || file == "" {
		return nil
	}
	has, err := engine.HasImage(ctx, id)
	if err != nil || has {
		return err
	}
	archive, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(exitNotFound, "put it there, or give another --image-file", "Docker lacks image %s, and there is no file %s", shortID(id), file)
	}
	if err != nil {
		return fmt.Errorf("cannot load image %s: %w", shortID(id), err)
	}
	defer archive.Close()
	notifyStatus("loading image " + shortID(id))
	log.Info("loading the image that instances run", "image", shortID(id), "file", file)
	if err := engine.Load(ctx, archive); err != nil {
		return fail(exitFailure, "has the disk of Docker room? docker info", "%w", err)
	}
	if has, err = engine.HasImage(ctx, id); err == nil && !has {
		return fail(exitInvalid, "build both again: bulkhead image build prints the ID and writes the archive", "the archive %s does not hold image %s", file, shortID(id))
	}
	return err
}

// proxyOverNetwork is how the proxy of a host in a cluster reaches etcd: by
// itself, with a certificate of its own.
func (a *app) proxyOverNetwork(o agentOptions) proxyWay {
	way := proxyWay{args: []string{"--endpoints", strings.Join(a.endpoints, ",")}, network: true}
	for _, f := range []struct{ flag, file string }{{"--cacert", a.ca}, {"--cert", o.proxyCert}, {"--key", o.proxyKey}} {
		if f.file != "" {
			way.args = append(way.args, f.flag, f.file)
			way.files = append(way.files, f.file)
		}
	}
	if *o.files["peer-cert"] != "" {
		way.args = append(way.args, "--images", archives.Socket(o.run))
		way.files = append(way.files, filepath.Dir(archives.Socket(o.run)))
	}
	return way
}
