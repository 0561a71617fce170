// Command cluster runs a cluster of test hosts on this machine; scripts/cluster
// is its front door, and package test/host/fleet does the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"bulkhead/test/host/fleet"
)

const usage = `usage: scripts/cluster [-hosts N] [-dir DIR] [-name NAME] COMMAND

  up                    bring up a cluster, or complete one; 3 hosts by default
  down                  remove it, with all its state
  status                hosts, tenants, instances
  env                   print what bulkhead and etcdctl need to reach it, for eval
  exec HOST COMMAND…    run a command on a host
  bulkhead ARGS…        run bulkhead as the operator
  etcdctl ARGS…         run etcdctl as root
  prepare, serve, ready what the Vagrantfile does around its hosts
  stop|start|kill|restart|pause|unpause|partition|heal HOST
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	hosts := flag.Int("hosts", 3, "how many hosts")
	dir := flag.String("dir", ".cache/cluster", "directory for the cluster's state")
	name := flag.String("name", "cluster", "the cluster's name, part of its containers' names")
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flag.Parse()
	verb, args := flag.Arg(0), []string(nil)
	if flag.NArg() > 0 {
		args = flag.Args()[1:]
	}
	if verb == "up" || verb == "down" || verb == "prepare" { // which take no other words
		if err := flag.CommandLine.Parse(args); err != nil {
			return err
		}
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if *dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if verb == "" {
		flag.Usage()
		return errors.New("which command?")
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "    "+format+"\n", args...) }
	f := &fleet.Fleet{Name: *name, Dir: *dir, Root: root, Say: say}
	switch verb {
	case "up":
		return up(ctx, f, *hosts)
	case "prepare":
		return fleet.Prepare(ctx, f, *hosts)
	case "down":
		return f.Down(ctx)
	}
	if f, err = fleet.Open(*dir, root); errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no cluster: scripts/cluster up makes one")
	} else if err != nil {
		return err
	}
	return inside(ctx, f, verb, args)
}

func up(ctx context.Context, f *fleet.Fleet, hosts int) error {
	if hosts < 1 || hosts > 40 {
		return fmt.Errorf("-hosts %d: want 1 to 40", hosts)
	}
	if err := fleet.Up(ctx, f, hosts); err != nil {
		return err
	}
	this := "scripts/cluster" // with the flags that name it again
	flag.Visit(func(g *flag.Flag) {
		if g.Name != "hosts" {
			this += " -" + g.Name + " " + g.Value.String()
		}
	})
	fmt.Printf("\nCluster %s is up: %d hosts on %s. Go on with:\n\n    eval \"$(%s env)\"\n", f.Name, len(f.Hosts), f.Subnet, this)
	for _, line := range []string{
		"bulkhead status                       # hosts, tenants, instances",
		"etcdctl member list -w table",
		this + " exec h1 systemctl list-units 'bulkhead*'",
		this + " restart h2            # a host reboots",
		this + " down                  # end all of it",
	} {
		fmt.Println("    " + line)
	}
	return nil
}

// inside does what needs a cluster that is there.
func inside(ctx context.Context, f *fleet.Fleet, verb string, args []string) error {
	switch verb {
	case "env":
		for _, e := range f.Env() {
			fmt.Printf("export %s\n", e)
		}
		fmt.Printf("export PATH=\"$PATH:%s/bin\"\n", f.Root)
		return nil
	case "serve":
		return f.Serve(ctx)
	case "ready":
		return f.Ready(ctx)
	case "status":
		return attach(f.Bulkhead(ctx, append([]string{"status"}, args...)...))
	case "bulkhead":
		return attach(f.Bulkhead(ctx, args...))
	case "etcdctl":
		return attach(f.Command(ctx, "etcdctl", args...))
	}
	if len(args) == 0 {
		return fmt.Errorf("%s: which host? There are %s", verb, names(f))
	}
	h := f.Host(args[0])
	if h == nil {
		return fmt.Errorf("there is no host %q; there are %s", args[0], names(f))
	}
	if verb == "exec" {
		return attach(exec.CommandContext(ctx, "docker", append([]string{"exec", "-i", string(h.Container)}, args[1:]...)...))
	}
	return harm(ctx, h.Container, verb)
}

func harm(ctx context.Context, c fleet.Container, verb string) error {
	switch verb {
	case "stop":
		return c.Stop(ctx)
	case "kill":
		return c.Kill(ctx)
	case "start":
		return errors.Join(c.Start(ctx), c.Await(ctx))
	case "restart":
		return errors.Join(c.Stop(ctx), c.Start(ctx), c.Await(ctx))
	case "pause":
		return c.Pause(ctx)
	case "unpause":
		return c.Unpause(ctx)
	case "thaw":
		c.Thaw(ctx)
		return nil
	case "partition":
		return c.Partition(ctx)
	case "heal":
		return c.Heal(ctx)
	}
	return fmt.Errorf("unknown command %q", verb)
}

func names(f *fleet.Fleet) string {
	var all []string
	for _, h := range f.Hosts {
		all = append(all, h.Name)
	}
	return strings.Join(all, ", ")
}

func attach(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
