package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// bootTime is how long a host may take from start to systemd saying that it
// is up.
const bootTime = 180 * time.Second

// again is how soon to look again at what tells nobody when it changes.
const again = 50 * time.Millisecond

// Image builds the hosts' image if it isn't there, and returns its name.
var Image = sync.OnceValues(func() (string, error) {
	cmd := exec.Command(filepath.Join(sourceDir(), "..", "build"))
	var progress bytes.Buffer
	cmd.Stderr = &progress
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot build the test host's image: %w\n%s", err, progress.String())
	}
	return strings.TrimSpace(string(out)), nil
})

func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Container is a host's container, by its name.
type Container string

// Needs are what a container needs for systemd and Docker to run in it, as
// arguments of docker create. Not --privileged: that fails where the machine
// itself lacks a capability.
func Needs() []string {
	// A host that reboots itself ends the container; one that is stopped or
	// killed from outside stays so.
	args := []string{"--stop-signal", "SIGRTMIN+3", "--restart=unless-stopped", "--cgroupns=private",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
		"--device-cgroup-rule", "a *:* rwm", "--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec", "--volume", "/var/lib/docker"}
	for _, c := range []string{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "DAC_READ_SEARCH", "SYS_NICE", "SYSLOG", "NET_RAW"} {
		args = append(args, "--cap-add", c)
	}
	return args
}

// docker runs a docker command; its error has what it printed.
func docker(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("cannot docker %s: %w: %s", args[0], err, text)
	}
	return text, nil
}

// Create makes the host's container, without starting it.
func (c Container) Create(ctx context.Context, hostname string, more ...string) error {
	image, err := Image()
	if err != nil {
		return err
	}
	args := append([]string{"create", "--name", string(c), "--hostname", hostname}, Needs()...)
	_, err = docker(ctx, append(append(args, more...), image)...)
	return err
}

// Start boots the host. Await waits until it is up.
func (c Container) Start(ctx context.Context) error {
	_, err := docker(ctx, "start", string(c))
	return err
}

// Stop shuts the host down as its power button would.
func (c Container) Stop(ctx context.Context) error {
	return c.thawing(ctx, func() error {
		_, err := docker(ctx, "stop", "--time=30", string(c))
		return err
	})
}

// Remove removes the container and its volume; no container is no error.
func (c Container) Remove(ctx context.Context) error {
	err := c.thawing(ctx, func() error {
		_, err := docker(ctx, "rm", "--force", "--volumes", string(c))
		return err
	})
	if err != nil && strings.Contains(err.Error(), "No such container") {
		return nil
	}
	return err
}

// Thaw thaws what is frozen on the host: with version 1 of cgroups a frozen
// process can't be killed, and the host would not end before it. It does so from
// outside, where it works when nothing on the host runs any more.
func (c Container) Thaw(ctx context.Context) {
	_, _ = docker(ctx, "unpause", string(c))
	id, err := docker(ctx, "inspect", "--format", "{{.Id}}", string(c))
	if err != nil {
		return
	}
	_ = filepath.WalkDir(filepath.Join("/sys/fs/cgroup/freezer/docker", id), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "freezer.state" {
			_ = os.WriteFile(path, []byte("THAWED"), 0o644) // or it has gone
		}
		return nil
	})
}

// thawing does something that ends the host, and thaws what is frozen on it, and
// what its agent freezes meanwhile, until that is done.
func (c Container) thawing(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	c.Thaw(ctx)
	go func() { done <- do() }()
	for tick := time.NewTicker(4 * again); ; {
		select {
		case err := <-done:
			tick.Stop()
			return err
		case <-tick.C:
			c.Thaw(ctx)
		}
	}
}

// Run runs a command on the host and returns what it printed, both outputs
// together.
func (c Container) Run(ctx context.Context, input io.Reader, command ...string) (string, error) {
	args := []string{"exec"}
	if input != nil {
		args = append(args, "--interactive")
	}
	cmd := exec.CommandContext(ctx, "docker", append(append(args, string(c)), command...)...)
	cmd.Stdin = input
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Await waits until systemd has started all there is to start, and Docker
// answers.
func (c Container) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	for {
		// Until systemd listens, this fails at once; from then on it waits.
		out, err := c.Run(ctx, nil, "systemctl", "is-system-running", "--wait")
		state := strings.TrimSpace(out)
		if err == nil || state == "degraded" {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("host %s does not boot: %s: %w\n%s", c, state, err, c.lastWords())
		case <-time.After(again):
		}
		if running, _ := docker(ctx, "inspect", "--format", "{{.State.Running}}", string(c)); running == "false" {
			return fmt.Errorf("host %s has ended while booting:\n%s", c, c.lastWords())
		}
	}
	if out, err := c.Run(ctx, nil, "docker", "info"); err != nil {
		return fmt.Errorf("host %s has no Docker Engine: %w\n%s", c, err, out)
	}
	return nil
}

// lastWords are what the host said last, and what of it doesn't work or isn't
// done.
func (c Container) lastWords() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	logs, _ := docker(ctx, "logs", "--tail=30", string(c))
	jobs, _ := c.Run(ctx, nil, "sh", "-c", "systemctl list-jobs --no-pager; systemctl list-units --failed --no-pager; journalctl --no-pager -n 30")
	return logs + "\n" + jobs
}

// each does something to all hosts at once, and joins their errors.
func each[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var work sync.WaitGroup
	for i, one := range all {
		work.Go(func() { errs[i] = do(one) })
	}
	work.Wait()
	return errors.Join(errs...)
}
