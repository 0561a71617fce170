package units

import (
	"bytes"
	"embed"
	"fmt"
	"math"
	"path"
	"strings"
	"text/template"

	"bulkhead/cluster"
)

//go:embed templates
var files embed.FS

var templates = template.Must(template.ParseFS(files, "templates/*"))

// Unit is one unit file.
type Unit struct {
	Name string // with its ending: bulkhead-acme-0.service
	Text string
}

// What a runner may use within its instance's limits. It needs some 12 MiB;
// the rest is for bodies in flight.
const (
	runnerMemory   = 64 << 20
	runnerGoMemory = 48 << 20
	runnerTasks    = 32
	// runnerCPU is what an instance's slice may use on top of the container's
	// share, in percent of a core, so that code that burns all of its own CPU
	// does not starve the runner that has to stop it.
	runnerCPU = 25
)

type instance struct {
	Host                      cluster.Host
	Dir                       cluster.InstanceDir
	Tenant, Instance          string
	Slice, Socket, User       string
	CPUQuota, Tasks           int
	Memory                    int64
	RunnerMemory, RunnerTasks int
	RunnerGoMemory            int
}

// Render returns the units of one instance on a host: the tenant's slice
// (the same text for all its instances), the instance's slice, the runner's
// socket and the runner's service, in that order.
//
// It fails when the placement's instance is not one of its tenant's, or when
// one of the host's paths is not absolute and clean or would need quoting.
func Render(host cluster.Host, p cluster.Placement) ([]Unit, error) {
	tenant, n, err := cluster.ParseInstance(p.Instance)
	if err != nil {
		return nil, fmt.Errorf("cannot render units: %w", err)
	}
	if tenant != p.Tenant {
		return nil, fmt.Errorf("cannot render units: instance %q is not one of tenant %q", p.Instance, p.Tenant)
	}
	if p.Runner != "" {
		host.Paths.Runner = p.Runner
	}
	if err := checkPaths(host.Paths.Run, host.Paths.Runner); err != nil {
		return nil, fmt.Errorf("cannot render units for host %q: %w", host.Name, err)
	}
	in := instance{
		Host: host, Dir: host.Paths.InstanceDir(p.Instance),
		Tenant: tenant, Instance: p.Instance,
		Slice: cluster.InstanceSlice(tenant, n), Socket: cluster.RunnerSocket(tenant, n), User: cluster.RunnerUser(tenant),
		CPUQuota:     int(math.Ceil(p.Resources.CPU*100)) + runnerCPU,
		Tasks:        p.Resources.Pids + runnerTasks,
		Memory:       int64(p.Resources.Memory),
		RunnerMemory: runnerMemory, RunnerGoMemory: runnerGoMemory, RunnerTasks: runnerTasks,
	}
	values := in.values()
	return []Unit{
		{cluster.TenantSlice(tenant), tenantSlice.fill(values)},
		{in.Slice, instanceSlice.fill(values)},
		{in.Socket, runnerSocket.fill(values)},
		{cluster.RunnerService(tenant, n), runnerService.fill(values)},
	}, nil
}

type file struct{ name, template string }

func render(data any, fs []file) ([]Unit, error) {
	var us []Unit
	for _, f := range fs {
		var b bytes.Buffer
		if err := templates.ExecuteTemplate(&b, f.template, data); err != nil {
			return nil, fmt.Errorf("cannot render %s: %w", f.name, err)
		}
		us = append(us, Unit{f.name, b.String()})
	}
	return us, nil
}

// checkPaths returns an error unless each path can stand in a unit as it is.
func checkPaths(paths ...string) error {
	for _, p := range paths {
		if !path.IsAbs(p) || path.Clean(p) != p {
			return fmt.Errorf("path %q: want an absolute, clean path", p)
		}
		if strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`%:"'\$`, r) }) {
			return fmt.Errorf("path %q: a unit file can't hold it unquoted", p)
		}
	}
	return nil
}
