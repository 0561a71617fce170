package cluster

import "time"

// Rollout is a patch that the fleet takes host by host: the value of
// [RolloutKey]. Every field but Kind, and what that kind needs, has a default.
type Rollout struct {
	Kind    RolloutKind       `json:"kind"`
	Labels  map[string]string `json:"labels,omitempty"`  // hosts must have them all; none: every host
	Hosts   []string          `json:"hosts,omitempty"`   // or these, in this order
	Action  string            `json:"action,omitempty"`  // of an os rollout: what each host does, by the name that its own configuration gives it; reboot
	Image   string            `json:"image,omitempty"`   // of an image rollout: its ID, sha256:…
	Release string            `json:"release,omitempty"` // of an agent rollout: digest of the release, sha256:…
	Pace    Pace              `json:"pace,omitzero"`
	Gate    Gate              `json:"gate,omitzero"`
	Paused  bool              `json:"paused,omitempty"`  // begins with no further host
	Aborted bool              `json:"aborted,omitempty"` // ends after the hosts that are at it
	Undo    bool              `json:"undo,omitempty"`    // brings hosts back to what was before; image and agent
	Alone   bool              `json:"alone,omitempty"`   // although there is nowhere for tenants to go: they are away meanwhile
}

// RolloutKind is what is patched.
type RolloutKind string

// Kinds of rollouts.
const (
	RolloutOS    RolloutKind = "os"    // drain, run an action of the host's, see it back
	RolloutImage RolloutKind = "image" // instances get another Node image, start before stop
	RolloutAgent RolloutKind = "agent" // agent, proxy, runners and schedulers get another release
)

// Pace is how fast a rollout goes.
type Pace struct {
	AtOnce int      `json:"at_once,omitempty"` // hosts at a time; 1
	Canary int      `json:"canary,omitempty"`  // hosts that go first, one by one; 1
	Watch  Duration `json:"watch,omitempty"`   // how long the canaries are watched before the rest; 1m
}

// Gate is what a host must pass before the next begins.
type Gate struct {
	Back   Duration `json:"back,omitempty"`   // the host must be back, patched, within; 15m
	Steady Duration `json:"steady,omitempty"` // and be healthy for; 10s
	Move   Duration `json:"move,omitempty"`   // each of its instances must be replaced within, once there is room; 5m
}

// Cycle is one host's way through a patch: the value of [CycleKey], which is
// there for as long as it lasts. It is all that a scheduler has to know to go
// on where its predecessor was.
type Cycle struct {
	Host    string      `json:"host"`
	For     string      `json:"for"`              // the rollout's id, or fleetlock
	Kind    RolloutKind `json:"kind"`             //
	Group   string      `json:"group"`            // of hosts that take turns
	Member  bool        `json:"member,omitempty"` // it runs a member of etcd
	Step    CycleStep   `json:"step"`
	Since   time.Time   `json:"since"`            // when this step began
	Begun   time.Time   `json:"begun"`            // when the cycle began
	Action  string      `json:"action,omitempty"` // what the host is to do once it has been left
	Boot    string      `json:"boot,omitempty"`   // the host's when it was told to, or until then when the cycle began
	Before  string      `json:"before,omitempty"` // image or release that it had
	Order   Order       `json:"order,omitzero"`   // what the host is told
	Waiting []string    `json:"waiting,omitempty"`
	Stopped string      `json:"stopped,omitempty"` // why it does not go on; empty: it does
	Alert   string      `json:"alert,omitempty"`   // what an operator should look at
}

// CycleStep is where a host is in its cycle.
type CycleStep string

// Steps of a cycle, in order. Image and agent rollouts have no cordon and no
// drain: they replace instances on the host itself.
const (
	StepCordon CycleStep = "cordon" // nothing new is placed there
	StepDrain  CycleStep = "drain"  // replacements start elsewhere, serve, and the host's instances go
	StepLeave  CycleStep = "leave"  // its proxy tells balancers and other proxies, and lingers
	StepPatch  CycleStep = "patch"  // the host does it
	StepReturn CycleStep = "return" // it is back, with what was expected
	StepSteady CycleStep = "steady" // and healthy for a while
	StepDone   CycleStep = "done"
)

// Order is what a host's agent is told to do in a cycle: the value of
// [OrderKey]. It names what the host's own configuration knows; nothing in it is
// run as text.
type Order struct {
	ID      string `json:"id"`                // changes with every order; the agent carries one out once
	Leave   bool   `json:"leave,omitempty"`   // the proxy is to say that it is leaving
	Granted bool   `json:"granted,omitempty"` // who asked for its turn (FleetLock) has it
	Action  string `json:"action,omitempty"`  // run this action of yours
	Image   string `json:"image,omitempty"`   // have this image, and run instances with it
	Release string `json:"release,omitempty"` // become this release

	// From are hosts that have Image, with the addresses of their proxies
	// (host:port): where a host that lacks it may get it.
	From map[string]string `json:"from,omitempty"`
}

// Report is what became of an order: the value of [ReportKey], written by the
// host's agent, not leased: it outlives a reboot.
type Report struct {
	Order string    `json:"order"` // its ID
	State string    `json:"state"` // doing, done or failed
	Error string    `json:"error,omitempty"`
	Left  bool      `json:"left,omitempty"` // the proxy has left
	Time  time.Time `json:"time"`
}

// Ask is a host that wants its turn by itself (FleetLock), or that has had it:
// the value of [AskKey], written by its agent.
type Ask struct {
	Group  string    `json:"group"`
	ID     string    `json:"id"`     // the client's own, see the FleetLock protocol
	Wanted bool      `json:"wanted"` // false: it gives its turn back
	Time   time.Time `json:"time"`
}

// RolloutStatus is how a rollout goes: the value of [RolloutStatusKey].
type RolloutStatus struct {
	Phase  string                 `json:"phase"`
	Reason string                 `json:"reason,omitempty"`
	Hosts  map[string]HostOutcome `json:"hosts"`
	Begun  time.Time              `json:"begun,omitzero"`
	Ended  time.Time              `json:"ended,omitzero"`
	// Observed is the revision of the rollout under which a gate failed: it is
	// resumed by being written again.
	Observed int64 `json:"observed,omitempty"`
	Watched  bool  `json:"watched,omitempty"` // the canaries have been watched
	// Below are tenants that had fewer instances than they must when it began.
	Below []string `json:"below,omitempty"`
	// Failed is how many requests have failed since it began, until it ended, at
	// each host that was there then, whether the rollout is for it or not. It is
	// up to some seconds old; newer counts are in [Load].
	Failed map[string]Failures `json:"failed,omitempty"`
}

// Phases of a rollout.
const (
	RolloutWaiting = "waiting" // its turn has not come, or it is not valid: Reason says
	RolloutRunning = "running"
	RolloutWatched = "watching" // the canaries
	RolloutPaused  = "paused"
	RolloutStopped = "stopped" // a gate failed: Reason says which; resume or abort it
	RolloutAborted = "aborted"
	RolloutDone    = "done"
	RolloutUndone  = "undone"
)

// FleetLock is whom a cycle is for that a host asked for by itself.
const FleetLock = "fleetlock"

// DefaultGroup is the group of hosts that have not asked in the name of
// another.
const DefaultGroup = "default"

// Release is the key of a release's digest in [Host.Versions].
const Release = "release"

// States of a host in a rollout.
const (
	HostWaiting = "waiting"
	HostCycling = "cycling"
	HostDone    = "done"
	HostFailed  = "failed"
	HostSkipped = "skipped" // it had it already, or is no more
	HostUndone  = "undone"
)

// States of an order.
const (
	OrderDoing  = "doing"
	OrderDone   = "done"
	OrderFailed = "failed"
)

// HostOutcome is what a rollout has done with one host.
type HostOutcome struct {
	State  string        `json:"state"` // [HostWaiting] and so on
	Reason string        `json:"reason,omitempty"`
	Before string        `json:"before,omitempty"` // what it had, for an undo
	Took   time.Duration `json:"took,omitempty"`   // nanoseconds
}
