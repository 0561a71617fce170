// Package supervisor runs the units of package units on machines where
// systemd is not PID 1: a build container, a laptop's virtual machine. Hosts
// with systemd are the rule; this is for trying Bulkhead out and for its tests.
//
// It reads the same unit files, owns the sockets and starts their services on
// the first connection (LISTEN_FDS, sd_listen_fds(3)), each in a jail of its
// own: new namespaces, a root that holds nothing but what the unit binds
// there, a user of its own, no capabilities, no new privileges, a filter of
// system calls, limits by rlimit and cgroup. What it can't honour, it says,
// once a unit: of our own units that is PrivateUsers= (the jail's user is a
// number that nobody else on the machine has, which is most of the point) and
// OOMPolicy=. [honoured], [implied] and [replaced] are the whole list.
//
// A jail is made by a jailer, cmd/bulkhead-jail or this same binary started
// again (see [MaybeJail]), which turns itself into the jail and then into the
// service. The services are not
// bound to the supervisor's life: killed and started again, it finds them by
// the pid and start time that it noted, takes their sockets back from them
// and leaves them be.
package supervisor
