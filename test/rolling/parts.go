package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/test/host/fleet"
)

// part is something that happens under load.
type part struct {
	name, what string
	streams    bool // WebSockets and 20 s answers are part of the load
	loses      bool // some may be lost: they are counted
	do         func(context.Context, *rig) (took string, err error)
}

var parts = []part{
	{name: "steady", what: "nothing happens", streams: true, do: steady},
	{name: "reboots", what: "every host is rebooted", do: reboots},
	{name: "streams", what: "every host is rebooted, with WebSockets and 20 s answers", streams: true, do: reboots},
	{name: "kills", what: "the same, the leading scheduler killed at each step", do: kills},
	{name: "unready", what: "a replacement never gets ready: the rollout stops", do: unready},
	{name: "unback", what: "a host never comes back: the rollout stops; later it does, and it is resumed", do: unback},
	{name: "image", what: "another image, and back", streams: true, do: image},
	{name: "release", what: "another release of Bulkhead itself, and back", streams: true, do: release},
	{name: "cycles", what: "every host is rebooted, again and again", do: cycles},
	{name: "power", what: "a host loses power, unannounced", loses: true, do: power},
}

func steady(ctx context.Context, _ *rig) (string, error) {
	select {
	case <-time.After(30 * time.Second):
	case <-ctx.Done():
	}
	return "", ctx.Err()
}

// everyHost is a rollout that reboots every host, the canary watched only briefly.
func everyHost() cluster.Rollout {
	return cluster.Rollout{Kind: cluster.RolloutOS, Pace: cluster.Pace{Watch: cluster.Duration(time.Second)}}
}

func reboots(ctx context.Context, r *rig) (string, error) {
	id, err := r.begin(ctx, everyHost())
	if err != nil {
		return "", err
	}
	status, err := r.follow(ctx, id, cluster.RolloutDone, nil)
	return took(status), err
}

// took says how long hosts took.
func took(s cluster.RolloutStatus) string {
	var all []time.Duration
	for _, h := range s.Hosts {
		if h.Took > 0 {
			all = append(all, h.Took)
		}
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return fmt.Sprintf("%s–%s", all[0].Round(100*time.Millisecond), all[len(all)-1].Round(100*time.Millisecond))
}

func cycles(ctx context.Context, r *rig) (string, error) {
	var all cluster.RolloutStatus
	all.Hosts = map[string]cluster.HostOutcome{}
	for i := range r.plan.cycles {
		id, err := r.begin(ctx, everyHost())
		if err != nil {
			return "", err
		}
		status, err := r.follow(ctx, id, cluster.RolloutDone, nil)
		if err != nil {
			return took(all), fmt.Errorf("cycle %d: %w", i+1, err)
		}
		for h, o := range status.Hosts {
			all.Hosts[fmt.Sprint(h, i)] = o
		}
		say("cycle %d of %d: %s", i+1, r.plan.cycles, took(status))
	}
	return took(all), nil
}

// kills kills the scheduler that leads whenever a host comes to a step that
// none was at before.
func kills(ctx context.Context, r *rig) (string, error) {
	id, err := r.begin(ctx, everyHost())
	if err != nil {
		return "", err
	}
	seen := map[cluster.CycleStep]bool{}
	status, err := r.follow(ctx, id, cluster.RolloutDone, func(c cluster.Cycle) {
		if seen[c.Step] {
			return
		}
		seen[c.Step] = true
		leader, _ := r.etcd.Get(ctx, cluster.ElectionPrefix, clientv3.WithFirstCreate()...)
		if leader == nil || len(leader.Kvs) == 0 {
			return
		}
		name := string(leader.Kvs[0].Value)
		if h := r.fleet.Host(name); h != nil {
			say("%s is at %s: the scheduler of %s is killed", c.Host, c.Step, name)
			_, _ = h.Container.Run(ctx, nil, "systemctl", "kill", "--signal=KILL", "bulkhead-scheduler.service")
		}
	})
	return took(status), err
}

// stopped waits until a rollout stops, and says why it did.
func (r *rig) stopped(ctx context.Context, id string) error {
	status, err := r.follow(ctx, id, cluster.RolloutStopped, nil)
	if status.Phase == cluster.RolloutStopped {
		say("it stops: %s", status.Reason)
		return nil
	}
	return err
}

func (r *rig) change(ctx context.Context, verb, id string) error {
	if out, err := r.fleet.Bulkhead(ctx, "rollout", verb, id).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// unready drains the host of the only instance of a tenant while the other
// hosts' engines are away, so that no replacement gets ready.
func unready(ctx context.Context, r *rig) (string, error) {
	at, err := r.where(ctx, "single")
	if err != nil {
		return "", err
	}
	engines := func(verb string) error {
		for _, h := range r.fleet.Hosts {
			if h.Name == at {
				continue
			}
			if out, err := h.Container.Run(ctx, nil, "systemctl", verb, "docker.socket", "docker.service"); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		return nil
	}
	if err := engines("stop"); err != nil {
		return "", err
	}
	spec := everyHost()
	spec.Hosts, spec.Gate.Move = []string{at}, cluster.Duration(20*time.Second)
	id, err := r.begin(ctx, spec)
	if err == nil {
		err = r.stopped(ctx, id)
	}
	if err == nil {
		err = r.change(ctx, "abort", id)
	}
	if again := engines("start"); err == nil {
		err = again
	}
	return "", err
}

// where is the host that has the only instance of a tenant.
func (r *rig) where(ctx context.Context, tenant string) (string, error) {
	b, err := etcd.List(ctx, r.etcd, cluster.RoutesPrefix)
	if err != nil {
		return "", err
	}
	for _, e := range b.Events {
		if parts, ok := cluster.SplitKey(e.Key, cluster.RoutesPrefix, 2); ok && strings.HasPrefix(parts[1], tenant+".") {
			return parts[0], nil
		}
	}
	return "", fmt.Errorf("tenant %s has no route", tenant)
}

// unback switches a host off when it has begun to reboot.
func unback(ctx context.Context, r *rig) (string, error) {
	spec := everyHost()
	h := r.fleet.Hosts[len(r.fleet.Hosts)-1]
	spec.Hosts, spec.Gate.Back = []string{h.Name}, cluster.Duration(45*time.Second)
	id, err := r.begin(ctx, spec)
	if err != nil {
		return "", err
	}
	off := make(chan error, 1)
	status, err := r.follow(ctx, id, cluster.RolloutStopped, func(c cluster.Cycle) {
		if c.Step == cluster.StepReturn && len(off) == 0 {
			off <- h.Container.Kill(ctx)
		}
	})
	if status.Phase != cluster.RolloutStopped {
		return "", err
	}
	say("it stops: %s", status.Reason)
	select {
	case err = <-off:
	default:
		err = fmt.Errorf("host %s was never at step %s", h.Name, cluster.StepReturn)
	}
	if err == nil {
		err = h.Container.Start(ctx)
	}
	if err == nil {
		err = r.change(ctx, "resume", id)
	}
	if err != nil {
		return "", err
	}
	status, err = r.follow(ctx, id, cluster.RolloutDone, nil)
	return took(status), err
}

// power takes the power of the host of the only instance of a tenant.
func power(ctx context.Context, r *rig) (string, error) {
	at, err := r.where(ctx, "single")
	if err != nil {
		return "", err
	}
	var h *fleet.Host
	if h = r.fleet.Host(at); h == nil {
		return "", fmt.Errorf("there is no host %s", at)
	}
	began := time.Now()
	if err := h.Container.Kill(ctx); err != nil {
		return "", err
	}
	all, err := r.awaitServing(ctx, at)
	if err != nil {
		return "", err
	}
	say("all instances serve elsewhere after %s", all.Sub(began).Round(100*time.Millisecond))
	return "", h.Container.Start(ctx)
}

// awaitServing waits until every tenant has what it must have on other hosts.
func (r *rig) awaitServing(ctx context.Context, but string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	need := map[string]int{"pair": 2, "single": 1, "spread": 2}
	serves := map[string]string{} // by key: tenant
	for b := range etcd.Watch(ctx, r.etcd, cluster.InstancesPrefix) {
		for _, e := range b.Events {
			delete(serves, e.Key)
			if parts, ok := cluster.SplitKey(e.Key, cluster.InstancesPrefix, 2); ok && !e.Deleted && parts[0] != but && strings.Contains(string(e.Value), `"phase":"ready"`) {
				serves[e.Key], _, _ = cluster.ParseInstance(parts[1])
			}
		}
		have := map[string]int{}
		for _, tenant := range serves {
			have[tenant]++
		}
		if have["pair"] >= need["pair"] && have["single"] >= need["single"] && have["spread"] >= need["spread"] {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("not within 3 minutes: %w", ctx.Err())
}
