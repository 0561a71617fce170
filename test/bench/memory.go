package main

import (
	"context"
	"fmt"
	"os"
	"time"

	keys "bulkhead/cluster"
)

// footprint is the memory of a cluster whose tenants are all in one state, in
// KiB of proportional set size.
type footprint struct {
	tenants                             int
	state                               string
	runner, cell, function, spare, shim float64 // of a tenant, on average
	proxy, up                           int     // of all
	processes                           float64 // of a tenant
}

func (f footprint) tenant() float64 { return f.runner + f.cell + f.function + f.spare }

// memory measures clusters of more and more tenants: all warm, then frozen,
// then dormant.
func memory(ctx context.Context, p plan) error {
	var all []footprint
	for _, n := range p.warm {
		some, err := footprints(ctx, n)
		if err != nil {
			return fmt.Errorf("with %d tenants: %w", n, err)
		}
		all = append(all, some...)
	}
	t := newTable("Memory (proportional set size), average of a tenant", "tenants", "state", "runner", "cell", "function's process", "spare process", "together",
		"Docker's shim", "processes", "proxy, of all", "etcd, scheduler and agent, of all")
	kib := func(v float64) string { return mib(int(v)) }
	for _, f := range all {
		t.row(fmt.Sprint(f.tenants), f.state, kib(f.runner), kib(f.cell), kib(f.function), kib(f.spare), kib(f.tenant()),
			kib(f.shim), fmt.Sprintf("%.1f", f.processes), mib(f.proxy), mib(f.up))
	}
	warm, dormant := all[0], all[2]
	figures["processes of a dormant instance"] = dormant.processes
	figures["memory of a runner, one tenant"] = warm.runner
	figures["memory of a container, one tenant"] = warm.cell + warm.function + warm.spare
	return peersMemory(ctx)
}

func footprints(ctx context.Context, tenants int) (all []footprint, err error) {
	// Who never sleeps has its cores reserved: here all but memory is promised
	// many times over.
	c, err := newCluster(ctx, "--overcommit-cpu", "64")
	if err != nil {
		return nil, err
	}
	defer func() { c.close(err) }()
	name := func(i int) string { return fmt.Sprintf("m%d", i) }
	sleep := func(freeze, dormant string) error {
		for i := range tenants {
			s := settings{"limits": settings{"rate": 0}, "sleep": settings{"freeze": freeze, "dormant": dormant}}
			if err := c.register(ctx, name(i), s); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range tenants {
		if err := c.deploy(ctx, name(i), "f", "f.js", helloCallback); err != nil {
			return nil, err
		}
	}
	if err := sleep("0s", "0s"); err != nil {
		return nil, err
	}
	for i := range tenants {
		t := c.function(name(i), "f")
		if _, err := t.until(ctx, time.Now(), helloX); err != nil {
			return nil, err
		}
		for range 50 {
			if _, err := t.once(ctx, helloX); err != nil {
				return nil, err
			}
		}
	}
	if err := c.rest(ctx); err != nil {
		return nil, err
	}
	take := func(state string) { all = append(all, c.footprint(tenants, name, state)) }
	take("warm")
	if all[0].runner == 0 || all[0].function == 0 {
		return nil, fmt.Errorf("measured nothing: %+v", all[0])
	}
	if err := sleep("1s", "0s"); err != nil {
		return nil, err
	}
	err = await(ctx, "all frozen", time.Minute, func() bool {
		for i := range tenants {
			if !frozen(c.cell(name(i)).PID) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	take("frozen")
	if err := sleep("0s", "1s"); err != nil {
		return nil, err
	}
	err = await(ctx, "all dormant", 2*time.Minute, func() bool { return c.phases(ctx, "")[keys.Dormant] == tenants })
	if err == nil {
		err = c.rest(ctx)
	}
	take("dormant")
	return all, err
}

func (c *cluster) footprint(tenants int, name func(int) string, state string) footprint {
	f := footprint{tenants: tenants, state: state, proxy: pss(c.servicePID("bulkhead-proxy.service")), up: pss(c.up.Process.Pid)}
	n := float64(tenants)
	add := func(sum *float64, pid int) {
		if pid != 0 && alive(pid) {
			*sum += float64(pss(pid)) / n
			f.processes += 1 / n
		}
	}
	cells := map[string]cell{}
	for _, one := range c.cells() {
		if one.Instance != "" && !one.Leaving {
			cells[one.Instance] = one
		}
	}
	for i := range tenants {
		add(&f.runner, c.runner(name(i)))
		pid := cells[name(i)+".0"].PID
		if pid == 0 {
			continue
		}
		add(&f.cell, pid)
		f.shim += float64(pss(parent(pid))) / n
		for j, node := range nodes(pid) {
			if j == 0 {
				add(&f.function, node)
			} else {
				add(&f.spare, node)
			}
		}
	}
	return f
}

// peersMemory prints what bare node:http and workerd take after as many
// requests, each in a container or process of its own.
func peersMemory(ctx context.Context) error {
	r, err := newRound(ctx, true, nil)
	if err != nil {
		return err
	}
	defer func() { r.close(err) }()
	t := newTable("Memory of the peers, one function each", "", "process", "Docker's shim")
	for _, one := range []*peer{r.bare, r.workerd} {
		for range 50 {
			if _, err = one.once(ctx, helloX); err != nil {
				return err
			}
		}
		shim := "none"
		if up := parent(one.pid); up != os.Getpid() {
			shim = mib(pss(up))
		}
		t.row(one.name, mib(pss(one.pid)), shim)
	}
	return nil
}
