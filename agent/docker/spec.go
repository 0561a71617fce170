package docker

import (
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-units"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
	"bulkhead/internal/seccomp"
)

// stopSeconds is how long "docker stop" waits; the agent itself kills.
const stopSeconds = 2

// specs says in Docker's words how a cell's container is made.
func (e *Engine) specs(s cells.ContainerSpec, parent string) (*container.Config, *container.HostConfig) {
	user := fmt.Sprintf("%d:%d", s.UID, s.UID)
	stop, no := stopSeconds, false
	cfg := &container.Config{
		Image:           s.Image,
		User:            user,
		Hostname:        "cell",
		NetworkDisabled: true,
		StopTimeout:     &stop,
		Labels:          map[string]string{LabelHost: e.host, LabelCell: s.Cell},
	}
	host := &container.HostConfig{
		NetworkMode:    "none",
		IpcMode:        "none",
		ReadonlyRootfs: true,
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{"no-new-privileges", "seccomp=" + seccomp.Profile()},
		Init:           &no,
		Runtime:        s.Runtime,
		OomScoreAdj:    500, // before any runner
		MaskedPaths:    masked,
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Mounts:         []mount.Mount{{Type: mount.TypeBind, Source: s.Dir, Target: "/run/cell"}},
		LogConfig:      container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "1"}},
		Resources:      resources(s.Limits),
	}
	if s.Tmp > 0 {
		host.Tmpfs = map[string]string{"/tmp": fmt.Sprintf("rw,nosuid,nodev,noexec,size=%d,uid=%d,gid=%d,mode=0700", s.Tmp, s.UID, s.UID)}
	}
	if s.Resolv != "" {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: s.Resolv, Target: "/etc/resolv.conf", ReadOnly: true})
	}
	if s.Modules != "" {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: s.Modules, Target: cluster.ModulesDir, ReadOnly: true})
	}
	host.CgroupParent = parent
	host.Ulimits = []*units.Ulimit{{Name: "core"}, {Name: "nofile", Soft: 4096, Hard: 4096}}
	return cfg, host
}

// masked are what of /proc and /sys tells of the host, or is a way to its
// kernel, and is not needed: Docker's own list (20.10's and 28's), and more. Of
// /sys control groups are left, by which the cell and Node know their limits; of
// /proc what os.cpus(), os.totalmem() and the like are made of. What is not there
// is passed over.
var masked = strings.Fields(`
	/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/key-users /proc/latency_stats /proc/timer_list /proc/timer_stats
	/proc/sched_debug /proc/scsi /proc/bus /proc/driver /proc/fs /proc/irq /proc/tty /proc/sysvipc /proc/interrupts /proc/softirqs
	/proc/cmdline /proc/config.gz /proc/kallsyms /proc/modules /proc/iomem /proc/ioports /proc/dma /proc/devices /proc/misc
	/proc/crypto /proc/consoles /proc/diskstats /proc/partitions /proc/mdstat /proc/swaps /proc/locks /proc/slabinfo
	/proc/vmallocinfo /proc/vmstat /proc/zoneinfo /proc/buddyinfo /proc/pagetypeinfo /proc/schedstat /proc/pressure
	/sys/block /sys/bus /sys/class /sys/dev /sys/devices /sys/firmware /sys/hypervisor /sys/kernel /sys/module /sys/power`)

// resources are the limits that can also be changed later. MemorySwap counts
// memory and swap together: the same number means no swap.
func resources(l cells.Limits) container.Resources {
	return container.Resources{Memory: l.Memory, MemorySwap: l.Memory, NanoCPUs: l.CPU, PidsLimit: &l.Pids}
}
