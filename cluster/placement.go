package cluster

import (
	"encoding/json"
	"path"
	"time"
)

// Placement is the decision that an instance runs on a host, with all that
// the host's agent needs to know about it: the value of [PlacementKey]. It
// carries the tenant's keys, so that an agent reads nothing but its own
// host's prefix.
type Placement struct {
	Tenant   string `json:"tenant"`
	Instance string `json:"instance"`
	Image    string `json:"image"` // the image's ID, sha256:…
	// Runner is the file of its runner's binary on the host, named by what is in
	// it. Empty: that of [Host.Paths].
	Runner    string       `json:"runner,omitempty"`
	Keys      []Key        `json:"keys"`
	Revoked   []Revocation `json:"revoked,omitempty"` // tokens that are refused all the same
	Resources Resources    `json:"resources"`
	Limits    Limits       `json:"limits"`
	Sleep     Sleep        `json:"sleep"`             // Dormant is 0 when the tenant wants instances kept ready
	Egress    Egress       `json:"egress"`            // where its code may connect to; absent: nowhere
	Runtime   string       `json:"runtime,omitempty"` // OCI runtime of its container; empty: the engine's own choice
	Spec      int64        `json:"spec"`              // revision of the spec it comes from
	Reason    string       `json:"reason"`            // why it is here
}

// Host is a host's presence, the value of [HostKey], kept under a lease by
// its agent.
type Host struct {
	Name     string            `json:"name"`
	Capacity Resources         `json:"capacity"`        // what tenants may use; Tmp is not counted
	Cores    float64           `json:"cores,omitempty"` // the most that one instance may have; Capacity.CPU, what they are promised together, may be more
	Labels   map[string]string `json:"labels,omitempty"`
	Init     string            `json:"init"` // systemd, or supervisor: the agent's own
	Paths    Paths             `json:"paths"`
	ProxyGID int               `json:"proxy_gid"`          // the group that may connect to runners
	Image    string            `json:"image"`              // ID of the image that new instances run
	Runtimes []string          `json:"runtimes,omitempty"` // OCI runtimes that its engine has, in order
	Versions map[string]string `json:"versions"`           // os, kernel, docker, systemd, bulkhead; release: the digest of the one that it runs
	Boot     string            `json:"boot"`               // changes with every boot
	Since    time.Time         `json:"since"`              // when this agent started
	// Address, host:port, is where its proxy takes requests from other hosts'
	// proxies; empty: it takes none.
	Address string `json:"address,omitempty"`
	// Opens are the IDs of the keys with which it can open sealed secrets.
	Opens []string `json:"opens,omitempty"`
	// Member says that it runs a member of etcd: no two of them are patched at
	// a time.
	Member bool `json:"member,omitempty"`
	// Archives says that a builder of npm modules leaves its archives there: other
	// hosts may get them from it.
	Archives bool `json:"archives,omitempty"`
	// Unready says why it should not be counted on yet (Docker, its proxy, its
	// pool of cells); empty: it is well, by its own checks.
	Unready string `json:"unready,omitempty"`
}

// Sealing says what secrets are sealed with before they are written: the value
// of [SealingKey]. While there is none they stay in plain text. It is no secret.
type Sealing struct {
	ID   string          `json:"id"`             // of the key that opens what the lock seals
	Lock json.RawMessage `json:"lock"`           // package sealed reads it
	File string          `json:"file,omitempty"` // where a cluster of one machine keeps the keys that open
}

// Paths are where a host keeps things; a scheduler renders them into units.
type Paths struct {
	Run    string `json:"run"`    // lost at reboot: /run/bulkhead
	State  string `json:"state"`  // kept: /var/lib/bulkhead
	Runner string `json:"runner"` // the static runner binary
}

// InstanceDir is what belongs to one instance on its host, gone when it is.
//
//	run.sock            the runner listens: frames; mode 0660, group of the proxy
//	private/            mode 0700: root's alone
//	private/keys.json   RunnerConfig, the runner's credential
//	private/used.json   what has been used of quotas, as the runner keeps it
//	private/functions/  <name>.json, one Function each, with Version set
//	private/cell/       where its cell's directory is to be seen, while it has one
//	private/agent/      the agent listens here for the runner; the jail's /agent
//	private/root/       empty: what the jail's root is built on
type InstanceDir string

// InstanceDir of an instance on a host with these paths.
func (p Paths) InstanceDir(instance string) InstanceDir {
	return InstanceDir(path.Join(p.Run, "instances", instance))
}

// Socket is where the instance's runner listens.
func (d InstanceDir) Socket() string { return path.Join(string(d), "run.sock") }

// Private holds what only root may reach from outside the jail and container.
func (d InstanceDir) Private() string { return path.Join(string(d), "private") }

// Keys is the runner's credential file.
func (d InstanceDir) Keys() string { return path.Join(string(d), "private", "keys.json") }

// Functions is the directory of the tenant's function records.
func (d InstanceDir) Functions() string { return path.Join(string(d), "private", "functions") }

// Used is the file in which its runner keeps what was used of quotas.
func (d InstanceDir) Used() string { return path.Join(string(d), "private", "used.json") }

// Agent is the directory of the socket at which the agent listens for the
// instance's runner.
func (d InstanceDir) Agent() string { return path.Join(string(d), "private", "agent") }

// Cell is where the directory that container and jail share is to be seen.
func (d InstanceDir) Cell() string { return path.Join(string(d), "private", "cell") }

// Root is the empty directory that the jail's root is built on.
func (d InstanceDir) Root() string { return path.Join(string(d), "private", "root") }

// RunnerConfig is the credential ("tenant") that a runner starts with, and
// what the agent sends it when keys or limits change.
type RunnerConfig struct {
	Tenant   string       `json:"tenant"`
	Instance string       `json:"instance"`
	Keys     []Key        `json:"keys"`
	Revoked  []Revocation `json:"revoked,omitempty"`
	Limits   Limits       `json:"limits"`
	Sleep    Sleep        `json:"sleep"`
}

// RunnerAnswer is what a runner says when it has taken a RunnerConfig: how many
// revocations are in force. One of a release that knows none says nothing.
type RunnerAnswer struct {
	Revoked int `json:"revoked"`
}

// Phase is where an instance is in its life.
type Phase string

// Phases of an instance. Ready and Dormant ones are routed to: a dormant
// instance has no process, and wakes with the first request.
const (
	Starting Phase = "starting"
	Ready    Phase = "ready"
	Dormant  Phase = "dormant"
	Failed   Phase = "failed"
	Stopping Phase = "stopping"
)

// Serves says whether an instance in this phase takes requests.
func (p Phase) Serves() bool { return p == Ready || p == Dormant }

// Instance is what an agent observes of an instance on its host: the value of
// [InstanceKey], under the host's lease.
type Instance struct {
	Tenant    string `json:"tenant"`
	Instance  string `json:"instance"`
	Host      string `json:"host"`
	Phase     Phase  `json:"phase"`
	Reason    string `json:"reason,omitempty"`
	Endpoint  string `json:"endpoint"`  // the runner's socket on its host
	Container string `json:"container"` // Docker's ID
	Placement int64  `json:"placement"` // revision of the placement in force
	Functions int64  `json:"functions"` // functions are as of this revision: Manifest.Revision
	// Told is the revision of the placement whose keys, limits and revocations
	// the runner has, or will have when it starts.
	Told  int64     `json:"told,omitempty"`
	Since time.Time `json:"since"` // when it entered this phase
	// Network says why its code can't connect to anything although its egress
	// allows it; empty: it can.
	Network string `json:"network,omitempty"`
}

// Function is one function of a tenant: the value of [FunctionKey].
type Function struct {
	File    string            `json:"file"` // shown in stack traces; its ending tells the language: .js .cjs .mjs .ts
	Code    string            `json:"code"`
	Meta    map[string]string `json:"meta,omitempty"`
	Secrets map[string]string `json:"secrets,omitempty"`
	Sealed  string            `json:"sealed,omitempty"` // Secrets, as package sealed makes it, in their place
	Limits  *LowerLimits      `json:"limits,omitempty"` // below the tenant's
	Modules *FunctionModules  `json:"modules,omitempty"`
	Created time.Time         `json:"created,omitzero"`
	Version string            `json:"version,omitempty"` // Digest of the rest; set by the agent
}

// Status is what became of a spec: the value of [TenantStatusKey].
type Status struct {
	Observed  int64     `json:"observed"`           // revision of the spec last read
	Applied   int64     `json:"applied"`            // revision of the spec in force; 0: none
	Phase     string    `json:"phase"`              // PhasePlaced and so on
	Error     string    `json:"error,omitempty"`    // what is wrong with the observed spec
	Warnings  []string  `json:"warnings,omitempty"` // accepted, but not honoured here
	Reasons   []string  `json:"reasons,omitempty"`  // why instances are where they are, or aren't
	Instances []string  `json:"instances,omitempty"`
	Sealed    int64     `json:"sealed,omitempty"` // revision at which the scheduler sealed a spec written in plain text
	Wanted    int       `json:"wanted,omitempty"` // instances, when they are more than the least
	Scaled    string    `json:"scaled,omitempty"` // why so many
	Time      time.Time `json:"time"`
}

// Phases of a tenant, in its [Status].
const (
	PhasePlaced  = "placed"  // all wanted instances have a host
	PhaseWaiting = "waiting" // some have none: Reasons say why
	PhaseInvalid = "invalid" // the observed spec is not in force: Error says why
	PhaseHeld    = "held"    // its spec is gone, but so are many: see [BrakeKey]
)

// Brake says that removals are held back, and how to confirm them: the value
// of [BrakeKey] and of [HostBrakeKey].
type Brake struct {
	Held   int       `json:"held"` // tenants whose spec is gone; hosts that are
	Of     int       `json:"of"`   // tenants there were; hosts
	Some   []string  `json:"some"` // the first of the held ones
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}
