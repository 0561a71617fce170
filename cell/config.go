package cell

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
)

// Where the image has things.
const (
	imageDir     = "/run/cell"
	imageNode    = "/usr/bin/node"
	imageHarness = "/usr/lib/bulkhead/harness"
	cgroupRoot   = "/sys/fs/cgroup"
)

// FromEnvironment is the cell's configuration: the image's, unless one of
// BULKHEAD_CELL_DIR, BULKHEAD_CELL_NODE, BULKHEAD_CELL_HARNESS says otherwise,
// as it does where the cell runs outside a container. There BULKHEAD_CELL_MEMORY
// stands for the container's limit, in bytes, and BULKHEAD_CELL_USERS=one keeps
// the processes under the cell's own user.
func FromEnvironment(getenv func(string) string) Config {
	memory := CgroupMemory(cgroupRoot)
	if n, err := strconv.ParseInt(getenv("BULKHEAD_CELL_MEMORY"), 10, 64); err == nil {
		memory = n
	}
	limits := LimitsFor(memory)
	harness := cmp.Or(getenv("BULKHEAD_CELL_HARNESS"), imageHarness)
	return Config{
		Dir:     cmp.Or(getenv("BULKHEAD_CELL_DIR"), imageDir),
		Node:    cmp.Or(getenv("BULKHEAD_CELL_NODE"), imageNode),
		Harness: harness,
		Flags:   func(l Limits) []string { return NodeFlags(l, harness) },
		Env:     []string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/usr/bin", "LANG=C.UTF-8", "TZ=UTC", "NODE_CHANNEL_FD=3", "NODE_CHANNEL_SERIALIZATION_MODE=json"},
		Cgroup:  cgroupRoot,
		Limits:  limits,
		Logs:    os.Stdout,
		PeerOK:  outsiders(os.Getpid()),
		OneUser: getenv("BULKHEAD_CELL_USERS") == "one",
	}
}

// outsiders accepts control connections only from outside the container, when
// the cell is its PID 1: code in the container must not drive the cell.
func outsiders(self int) func(pid, uid int) bool {
	return func(pid, _ int) bool { return self != 1 || pid == 0 }
}

// NodeFlags are the flags of every function process.
//
// The permission model keeps honest code from spawning and from files that are
// not its business; it is no wall, the container is. Async-hooks checks are off so that a loop can be broken into.
func NodeFlags(l Limits, harness string) []string {
	return []string{
		fmt.Sprintf("--max-old-space-size=%d", l.HeapMiB),
		"--disable-proto=delete",
		"--no-force-async-hooks-checks",
		"--v8-pool-size=1",
		"--inspect-port=127.0.0.1:0",   // of the inspector that SIGUSR1 opens: any free one,
		"--inspect-publish-uid=stderr", // and the rest of its address is for the cell alone
		"--disable-warning=ExperimentalWarning",
		"--disable-warning=SecurityWarning", // of --allow-inspector: the container is the wall
		"--permission",
		"--allow-net",
		"--allow-inspector",
		"--allow-addons", // that packages bring: decision 39
		"--allow-fs-read=" + harness,
		"--allow-fs-read=/function",
		"--allow-fs-read=/modules",
		"--allow-fs-read=/etc",
		"--allow-fs-read=/usr/share/zoneinfo",
		"--allow-fs-read=/tmp",
		"--allow-fs-write=/tmp",
	}
}
