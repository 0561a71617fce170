package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"

	"bulkhead/cluster"
)

// Config identifies what of a spec can't be changed without making a new
// container.
func (s ContainerSpec) Config() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "v1 %s %d %d %s %s", s.Image, s.UID, s.Tmp, s.Cell, s.Slice))
	return hex.EncodeToString(sum[:8])
}

// containerSpec says how the container of a placement is made on a host.
func containerSpec(paths cluster.Paths, p cluster.Placement, uid int) (ContainerSpec, error) {
	tenant, n, err := cluster.ParseInstance(p.Instance)
	if err != nil {
		return ContainerSpec{}, err
	}
	return ContainerSpec{
		Name:     cluster.ContainerName(p.Instance),
		Tenant:   tenant,
		Instance: p.Instance,
		Image:    p.Image,
		UID:      uid,
		Tmp:      int64(p.Resources.Tmp),
		Cell:     paths.InstanceDir(p.Instance).Cell(),
		Slice:    cluster.InstanceSlice(tenant, n),
		Limits: Limits{
			Memory: int64(p.Resources.Memory),
			CPU:    int64(math.Round(p.Resources.CPU * 1e9)),
			Pids:   int64(p.Resources.Pids),
		},
	}, nil
}
