// Package agent makes one host's placements run: on every host, as root, it
// keeps the host's presence in etcd, turns placements and rendered units into
// running instances, and reports how they are.
//
// One loop does it. Events (a key changed, a container died, a unit changed
// state, a task ended) and ticks wake it; it takes what is desired ([Desired],
// from etcd or, when etcd is away, from the host's own disk), observes what is
// ([Observed]), and the pure function [Plan] says what to do about the
// difference, each task with its reason. Every instance has a worker of its
// own that carries its tasks out and backs off when they fail, so one bad
// instance holds up nobody.
//
// Nothing that the agent starts is its child: containers belong to Docker,
// services to systemd or, where systemd is not PID 1, to agent/supervisor. An
// agent that is killed at any moment and started again finds everything by
// label and by name, and leaves alone what is as it should be. Losing etcd
// stops nothing either.
package agent
