package agent

import (
	"math"
	"path/filepath"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
	"bulkhead/internal/allot"
)

// cellSpec says what an instance wants of its cell.
func cellSpec(paths cluster.Paths, p cluster.Placement) cells.Spec {
	return cells.Spec{
		Kind:   cells.Kind{Image: p.Image, Runtime: p.Runtime},
		Limits: limitsOf(p.Resources),
		Tmp:    int64(p.Resources.Tmp),
		Egress: p.Egress,
		At:     paths.InstanceDir(p.Instance).Cell(),
	}
}

func limitsOf(r cluster.Resources) cells.Limits {
	return cells.Limits{Memory: int64(r.Memory), CPU: int64(math.Round(r.CPU * 1e9)), Pids: int64(r.Pids)}
}

// cellsConfig is how a host's cells are kept. Blank ones are made as most
// tenants want theirs: with the defaults.
func cellsConfig(c Config, uids *allot.Numbers) cells.Config {
	blank := cluster.DefaultSpec().Resources
	modules := ""
	if c.Modules != nil {
		modules = c.Modules.Trees()
	}
	return cells.Config{
		Dir: filepath.Join(c.Host.Paths.Run, "cells"), Slice: CellsSlice,
		Engine: c.Engine, UIDs: uids, Log: c.Log.With("part", "cells"),
		Blank: cells.Spec{Limits: limitsOf(blank), Tmp: int64(blank.Tmp)},
		Pool:  c.Pool, Modules: modules,
	}
}

// CellsSlice holds the containers of all cells. It is beside bulkhead.slice, and
// not in it: what code burns would count against proxy and runners too, and they
// would wait with it for everything else that the host does.
const CellsSlice = "bulkhead_cells.slice"
