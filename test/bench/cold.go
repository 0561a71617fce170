package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// start is one way to begin, and how long its first answers took.
type start struct {
	name string
	take func(context.Context) (time.Duration, error)
	took []time.Duration
}

// cold measures first answers: one of each kind after the other, so that all
// have the same machine.
func cold(ctx context.Context, p plan) (err error) {
	c, err := newCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { c.close(err) }()
	for tenant, sleep := range map[string]settings{
		"dormant": {"freeze": "0s", "dormant": "1s"},
		"frozen":  {"freeze": "1s", "dormant": "0s"},
		"awake":   {"freeze": "0s", "dormant": "0s"},
	} {
		if err := c.deploy(ctx, tenant, "f", "f.js", helloCallback); err != nil {
			return err
		}
		if err := c.register(ctx, tenant, settings{"limits": settings{"rate": 0}, "sleep": sleep}); err != nil {
			return err
		}
		if _, err := c.function(tenant, "f").until(ctx, time.Now(), helloX); err != nil {
			return err
		}
	}
	starts := []start{
		{name: "first request to a dormant instance", take: c.fromDormant},
		{name: "first request to a frozen instance", take: c.fromFrozen},
		{name: "etcd put of a new version, to its first answer", take: c.fromVersion()},
		{name: "etcd put of a new tenant, to its first 200", take: c.fromNothing()},
		{name: "code in the request, to its answer", take: c.fromCode},
		{name: "*node process, bare node:http*", take: c.nodeStart},
		{name: "*Docker create and start, bare node:http*", take: c.dockerStart},
		{name: "*workerd process*", take: workerdStart},
	}
	for range p.samples {
		for i := range starts {
			s := &starts[i]
			// What the one before leaves behind is not to be in the next one's way.
			if err := errors.Join(c.asleep(ctx, "dormant"), c.rest(ctx)); err != nil {
				return err
			}
			took, err := s.take(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.took = append(s.took, took)
		}
	}
	empty, err := emptyPool(ctx, max(5, p.samples/3))
	if err != nil {
		return fmt.Errorf("with an empty pool: %w", err)
	}
	t := newTable("To the first right answer", "from", "p50", "p90", "p99", "least–most", "times")
	for _, s := range append(starts[:1:1], append([]start{empty}, starts[1:]...)...) {
		t.row(s.name, ms(median(s.took)), ms(quantile(s.took, 0.9)), ms(quantile(s.took, 0.99)), ms(quantile(s.took, 0))+"–"+ms(quantile(s.took, 1)), fmt.Sprint(len(s.took)))
	}
	figures["first request to a dormant instance, p50"] = millis(median(starts[0].took))
	figures["first request to a dormant instance, p99"] = millis(quantile(starts[0].took, 0.99))
	figures["a new version, from its put to its first answer, p50"] = millis(median(starts[2].took))
	figures["a new tenant, from its put to its first 200, p50"] = millis(median(starts[3].took))
	return nil
}

func (c *cluster) fromDormant(ctx context.Context) (time.Duration, error) {
	if err := c.asleep(ctx, "dormant"); err != nil {
		return 0, err
	}
	return c.function("dormant", "f").once(ctx, helloX)
}

func (c *cluster) fromFrozen(ctx context.Context) (time.Duration, error) {
	err := await(ctx, "frozen", 10*time.Second, func() bool { return frozen(c.cell("frozen").PID) })
	if err != nil {
		return 0, err
	}
	return c.function("frozen", "f").once(ctx, helloX)
}

// fromVersion deploys the next version each time.
func (c *cluster) fromVersion() func(context.Context) (time.Duration, error) {
	n := 0
	return func(ctx context.Context) (time.Duration, error) {
		n++
		begun := time.Now()
		if err := c.deploy(ctx, "awake", "f", "f.js", fmt.Sprintf(`module.exports = (cb) => cb(null, { version: %d });`, n)); err != nil {
			return 0, err
		}
		return c.function("awake", "f").until(ctx, begun, fmt.Sprintf(`{"version":%d}`, n))
	}
}

// fromNothing registers another tenant each time, whose function is there.
func (c *cluster) fromNothing() func(context.Context) (time.Duration, error) {
	n := 0
	return func(ctx context.Context) (time.Duration, error) {
		n++
		tenant := fmt.Sprintf("new%d", n)
		if err := c.deploy(ctx, tenant, "f", "f.js", helloCallback); err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := c.register(ctx, tenant, napper); err != nil {
			return 0, err
		}
		took, err := c.function(tenant, "f").until(ctx, begun, helloX)
		return took, errors.Join(err, c.remove(ctx, tenant))
	}
}

func (c *cluster) fromCode(ctx context.Context) (time.Duration, error) {
	t := target{name: "code", url: c.proxy + "/api/run/awake", token: sign("awake")}
	a, err := t.ask(ctx, "POST", "", strings.NewReader(`module.exports = async () => 'done';`))
	if err == nil && a.status != 200 {
		err = fmt.Errorf("code answers %d %s", a.status, a.body)
	}
	return a.took, err
}

// nodeStart runs the same Node as in the image, as a process of the host: a
// container that is there lends its file.
func (c *cluster) nodeStart(ctx context.Context) (time.Duration, error) {
	b, err := newBare(c.image)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(b.dir)
	pids := nodes(c.cell("awake").PID)
	if len(pids) == 0 {
		return 0, errors.New("there is no Node process to take the binary from")
	}
	cmd := exec.Command(fmt.Sprintf("/proc/%d/exe", pids[0]), b.file, b.port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	return b.target().until(ctx, begun, helloX)
}

func (c *cluster) dockerStart(ctx context.Context) (time.Duration, error) {
	b, err := newBare(c.image)
	if err != nil {
		return 0, err
	}
	defer b.remove()
	begun := time.Now()
	if out, err := exec.CommandContext(ctx, "docker", append([]string{"create"}, b.docker()...)...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("docker create: %w\n%s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "docker", "start", b.name).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("docker start: %w\n%s", err, out)
	}
	return b.target().until(ctx, begun, helloX)
}

func workerdStart(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	w, err := startWorkerd(ctx)
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	w.close()
	return took, nil
}

// emptyPool wakes an instance of a host that keeps no blank cells. (A wake has
// the host make one for the next; it goes again after ten seconds.)
func emptyPool(ctx context.Context, samples int) (s start, err error) {
	s = start{name: "first request to a dormant instance, the pool empty"}
	c, err := newCluster(ctx, "--pool", "0")
	if err != nil {
		return s, err
	}
	defer func() { c.close(err) }()
	if err := c.deploy(ctx, "dormant", "f", "f.js", helloCallback); err != nil {
		return s, err
	}
	if err := c.register(ctx, "dormant", napper); err != nil {
		return s, err
	}
	t := c.function("dormant", "f")
	if _, err := t.until(ctx, time.Now(), helloX); err != nil {
		return s, err
	}
	for range samples {
		err := errors.Join(c.asleep(ctx, "dormant"), await(ctx, "no cell left", 90*time.Second, func() bool { return len(c.cells()) == 0 }))
		if err != nil {
			return s, err
		}
		took, err := t.once(ctx, helloX)
		if err != nil {
			return s, err
		}
		s.took = append(s.took, took)
	}
	return s, nil
}
