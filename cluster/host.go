package cluster

import "time"

// Inventory is what the operator knows of a host: the value of
// [InventoryKey]. Where a host has one, its own word counts only within it: a
// host that was taken over must not attract tenants by claiming a label or
// room that it doesn't have.
type Inventory struct {
	Labels  map[string]string `json:"labels,omitempty"`  // in place of its own
	Address string            `json:"address,omitempty"` // host:port of its proxy for other hosts' proxies
	Memory  Bytes             `json:"memory,omitempty"`  // most that tenants may use of it; 0: as it says
	CPU     float64           `json:"cpu,omitempty"`     // likewise, in cores promised
	Pids    int               `json:"pids,omitempty"`    // likewise
	Member  bool              `json:"member,omitempty"`  // it runs a member of etcd, whatever it says
}

// Limit returns what a host is taken for that claims to be h. Without an
// inventory, nil, that is what it claims.
func (i *Inventory) Limit(h Host) Host {
	if i == nil {
		return h
	}
	h.Labels, h.Member = i.Labels, h.Member || i.Member
	if i.Address != "" {
		h.Address = i.Address
	}
	if i.Memory > 0 {
		h.Capacity.Memory = min(h.Capacity.Memory, i.Memory)
	}
	if i.CPU > 0 {
		h.Capacity.CPU = min(h.Capacity.CPU, i.CPU)
	}
	if i.Pids > 0 {
		h.Capacity.Pids = min(h.Capacity.Pids, i.Pids)
	}
	return h
}

// Distrust is what the scheduler holds against a host that comes and goes: the
// value of [DistrustKey]. Until then the host keeps what it has and gets
// nothing new; deleting the key ends that.
type Distrust struct {
	Reason string    `json:"reason"`
	Until  time.Time `json:"until"`
	Times  int       `json:"times"` // how often by now; each time it lasts longer
}

// Load says how busy a host's instances are: the value of [LoadKey]. Those
// that are not in it have nothing to do.
type Load struct {
	// Instances, by name: requests in flight, on average over the last two
	// seconds.
	Instances map[string]float64 `json:"instances"`
	// Failed is how many requests that came to this host's proxy the platform
	// has failed, ever: [Failures] tells how many since some moment. Nil: the
	// host doesn't know.
	Failed *int64 `json:"failed,omitempty"`
}
