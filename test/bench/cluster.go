package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/internal/etcd"
)

// cluster is a cluster of this machine beside any other: with directories,
// ports and a host name of its own.
type cluster struct {
	dir, host string
	proxy     string
	image     string
	flags     []string
	etcd      *clientv3.Client
	up        *exec.Cmd
}

// newCluster starts one; flags are of "bulkhead up".
func newCluster(ctx context.Context, flags ...string) (c *cluster, err error) {
	dir, err := os.MkdirTemp("/run", "bulkhead-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory below /run (is this root?): %w", err)
	}
	c = &cluster{dir: dir, host: filepath.Base(dir), flags: flags} // containers are labelled with the host's name
	defer func() {
		if err != nil {
			c.close(nil)
			c = nil
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return c, err
	}
	c.proxy = "http://127.0.0.1:" + ports[2]
	image, err := exec.CommandContext(ctx, "bin/bulkhead", "image", "build", "--state", dir+"/state").Output()
	if err != nil {
		return c, fmt.Errorf("cannot build the image: %w", err)
	}
	c.image = strings.TrimSpace(string(image))
	if err := c.begin(ctx, ports); err != nil {
		return c, err
	}
	c.etcd, err = etcd.Open(etcd.Config{Endpoints: []string{"http://127.0.0.1:" + ports[0]}})
	return c, err
}

func (c *cluster) place(verb string, more ...string) []string {
	return append([]string{verb, "--host", c.host, "--state", c.dir + "/state", "--run", c.dir + "/run"}, more...)
}

func (c *cluster) begin(ctx context.Context, ports []string) error {
	log, err := os.Create(c.dir + "/up.log")
	if err != nil {
		return err
	}
	defer log.Close()
	args := c.place("up", "--etcd", "http://127.0.0.1:"+ports[0], "--etcd-peer", "http://127.0.0.1:"+ports[1], "--listen", "127.0.0.1:"+ports[2])
	// As nice as anything, whatever this program is.
	nice, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return fmt.Errorf("cannot tell how nice this is: %w", err)
	}
	args = append([]string{"-n", strconv.Itoa(nice - 20), "bin/bulkhead"}, args...) // the system call says 20 when it is 0, 40 when it is -20
	c.up = exec.Command("nice", append(args, c.flags...)...)
	c.up.Stdout, c.up.Stderr = log, log
	c.up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.up.Start(); err != nil {
		c.up = nil
		return fmt.Errorf("cannot start the cluster: %w", err)
	}
	err = await(ctx, "a cluster that is up", time.Minute, func() bool {
		data, _ := os.ReadFile(c.dir + "/state/up.pid")
		return bytes.Contains(data, []byte("ready"))
	})
	if err != nil {
		text, _ := os.ReadFile(c.dir + "/up.log")
		return fmt.Errorf("%w:\n%s", err, text)
	}
	return nil
}

// close takes everything down. Why what was measured failed is often in what
// the cluster has said, which goes with it.
func (c *cluster) close(why error) {
	if why != nil {
		out, _ := exec.Command("tail", "-n", "15", c.dir+"/up.log").Output()
		fmt.Fprintf(os.Stderr, "bench: the cluster's last words:\n%s", out)
	}
	if c.etcd != nil {
		c.etcd.Close()
	}
	client.CloseIdleConnections()
	out, err := exec.Command("bin/bulkhead", c.place("down", "--purge")...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: cannot take the cluster down: %v\n%s", err, out)
	}
	if c.up != nil {
		c.up.Wait()
	}
	os.RemoveAll(c.dir)
}

func freePorts(n int) (ports []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		ports = append(ports, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}
