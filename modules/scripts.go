package modules

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-units"
)

// What install scripts may use.
const (
	scriptsWithin = 15 * time.Minute
	scriptsMemory = 3 << 30 // with the set, which is in memory
	scriptsCPU    = 2e9     // billionths of a core
	scriptsPids   = 512
)

// scriptsLabel is on every container that runs install scripts: whose, by his
// state directory.
const scriptsLabel = "io.bulkhead.builder"

// script has the packages' own install scripts run, and sends what they left. All
// that they say goes to the log: a tar is on standard output, in which a file with two
// names is there twice (node-gyp links what it has compiled to where it is wanted).
const script = `cp -R /in/. /work && cd /work && node /npm/bin/npm-cli.js rebuild --foreground-scripts "$@" 1>&2 && exec tar --hard-dereference -cf - node_modules`

// scriptsConfig says in Docker's words how install scripts run: without network,
// root, capabilities or anything to keep.
func scriptsConfig(state string, t tools, image, in string, specs []string) (*container.Config, *container.HostConfig) {
	pids, no := int64(scriptsPids), false
	cfg := &container.Config{
		Image: image, User: fmt.Sprintf("%d:%d", BuilderUID, BuilderUID), Hostname: "builder", NetworkDisabled: true,
		AttachStdout: true, AttachStderr: true, Labels: map[string]string{scriptsLabel: state},
		Entrypoint: append([]string{"/bin/sh", "-c", script, "sh"}, specs...), Cmd: nil,
		Env: []string{"PATH=/node/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8", "npm_config_nodedir=/node", "npm_config_cache=/tmp/npm", "npm_config_offline=true",
			"npm_config_update_notifier=false", "npm_config_audit=false", "npm_config_fund=false", "npm_config_color=false", "JOBS=2"},
	}
	read := func(source, target string) mount.Mount {
		return mount.Mount{Type: mount.TypeBind, Source: source, Target: target, ReadOnly: true}
	}
	host := &container.HostConfig{
		NetworkMode: "none", IpcMode: "none", ReadonlyRootfs: true, CapDrop: []string{"ALL"}, Init: &no,
		SecurityOpt:   []string{"no-new-privileges"}, // and Docker's filter of system calls: ours lets no make run
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled}, OomScoreAdj: 1000,
		LogConfig: container.LogConfig{Type: "none"},
		Mounts:    []mount.Mount{read(t.node, "/node"), read(t.npm, "/npm"), read(in, "/in")},
		Tmpfs:     map[string]string{"/work": fmt.Sprintf("rw,exec,nosuid,nodev,size=%d,uid=%d,gid=%d,mode=0700", int64(MaxSet), BuilderUID, BuilderUID), "/tmp": "rw,exec,nosuid,nodev,size=256m,mode=1777"},
		Resources: container.Resources{Memory: scriptsMemory, MemorySwap: scriptsMemory, NanoCPUs: scriptsCPU, PidsLimit: &pids,
			Ulimits: []*units.Ulimit{{Name: "core"}, {Name: "nofile", Soft: 4096, Hard: 4096}}},
	}
	return cfg, host
}

// runScripts runs the install scripts of some packages of the set in the
// directory in, and writes the set that comes of it to the directory out.
func runScripts(ctx context.Context, docker *client.Client, state string, t tools, image, in, out string, specs []string, log io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, scriptsWithin)
	defer cancel()
	cfg, host := scriptsConfig(state, t, image, in, specs)
	made, err := docker.ContainerCreate(ctx, cfg, host, nil, nil, "")
	if err != nil {
		return fmt.Errorf("cannot make a container for install scripts: %w", err)
	}
	defer docker.ContainerRemove(context.WithoutCancel(ctx), made.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	stream, err := docker.ContainerAttach(ctx, made.ID, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return fmt.Errorf("cannot attach to the container for install scripts: %w", err)
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, stream.Close)
	defer stop()
	ended, failed := docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return fmt.Errorf("cannot start the container for install scripts: %w", err)
	}
	took := receive(stream.Reader, out, log)
	select {
	case end := <-ended:
		if end.StatusCode != 0 {
			return fmt.Errorf("the install script of %s failed (%s): the build's log has what it said", strings.Join(specs, " or "), exitReason(end.StatusCode))
		}
		return took
	case err := <-failed:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("the install script of %s has not ended within %s", strings.Join(specs, " or "), scriptsWithin)
		}
		return fmt.Errorf("cannot wait for install scripts: %w", errors.Join(err, took))
	}
}

// receive unpacks what a container sends on standard output, and logs the rest.
func receive(stream io.Reader, out string, log io.Writer) error {
	r, w := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := unpack(r, out)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // what pads the tar
		}
		r.CloseWithError(err)
		unpacked <- err
	}()
	_, err := stdcopy.StdCopy(w, log, stream)
	w.CloseWithError(err) // nil ends it as it should
	if err := errors.Join(err, <-unpacked); err != nil {
		return fmt.Errorf("cannot take what install scripts left: %w", err)
	}
	return nil
}

func exitReason(code int64) string {
	if code == 137 {
		return "it was killed: out of memory, at " + fmt.Sprint(scriptsMemory>>30) + " GiB"
	}
	return fmt.Sprintf("exit code %d", code)
}
