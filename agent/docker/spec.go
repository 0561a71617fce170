package docker

import (
	"fmt"

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

// resources are the limits that can also be changed later. MemorySwap counts
// memory and swap together: the same number means no swap.
func resources(l cells.Limits) container.Resources {
	return container.Resources{Memory: l.Memory, MemorySwap: l.Memory, NanoCPUs: l.CPU, PidsLimit: &l.Pids}
}
