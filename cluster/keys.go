package cluster

import (
	"fmt"
	"strings"
)

// Root is the prefix of every key Bulkhead reads or writes in etcd.
const Root = "/bulkhead/"

// Prefixes of the keys. Each ends in a slash.
const (
	TenantsPrefix     = Root + "tenants/"     // operator: Spec
	AppliedPrefix     = Root + "applied/"     // scheduler: the last valid Spec, as written
	InventoryPrefix   = Root + "inventory/"   // operator: Inventory, what a host may claim to be
	HostsPrefix       = Root + "hosts/"       // agent, leased: Host
	LoadsPrefix       = Root + "loads/"       // agent, leased: Load
	CordonsPrefix     = Root + "cordons/"     // operator or rollout: a reason
	DrainsPrefix      = Root + "drains/"      // operator or rollout: a reason
	PlacementsPrefix  = Root + "placements/"  // scheduler: Placement
	UnitsPrefix       = Root + "units/"       // scheduler: a unit file's text
	ManifestsPrefix   = Root + "manifests/"   // scheduler: Manifest
	CopiesPrefix      = Root + "copies/"      // scheduler: Copy of a function
	RoutesPrefix      = Root + "routes/"      // scheduler: Route
	InstancesPrefix   = Root + "instances/"   // agent, leased: Instance
	FunctionsPrefix   = Root + "functions/"   // tenant: Function
	ModulesPrefix     = Root + "modules/"     // operator: Allow, by package
	BuildsPrefix      = Root + "builds/"      // builder: Build
	SetsPrefix        = Root + "sets/"        // builder: Set
	BuildersPrefix    = Root + "builders/"    // builder: which of them builds
	RolloutsPrefix    = Root + "rollouts/"    // operator: Rollout
	CyclesPrefix      = Root + "cycles/"      // scheduler: Cycle
	OrdersPrefix      = Root + "orders/"      // scheduler: Order
	ReportsPrefix     = Root + "reports/"     // agent: Report
	AsksPrefix        = Root + "asks/"        // agent: Ask
	RevocationsPrefix = Root + "revocations/" // operator: a list of Revocation
	SealingPrefix     = Root + "sealing/"     // operator: Sealing
	StatusPrefix      = Root + "status/"      // scheduler: Status
	ElectionPrefix    = Root + "election/"    // scheduler: who leads
	ClaimsPrefix      = Root + "claims/"      // each user below his own name: who he says he is
	AuditPrefix       = Root + "audit/"       // scheduler: the audit log
)

// AuditHeadKey is where the audit log ends, and AuditPages what its pages begin
// with.
const (
	AuditHeadKey = AuditPrefix + "head"
	AuditPages   = AuditPrefix + "pages/"
)

// ClaimKey is where a user of etcd says who he is and what he is about, in the
// transaction that does it.
func ClaimKey(user string) string { return ClaimsPrefix + user }

// AuditPageKey is the page of the audit log that begins with record n.
func AuditPageKey(n int64) string { return fmt.Sprintf("%s%016d", AuditPages, n) }

// ModulePolicyKey is where an operator says what holds for all packages.
const ModulePolicyKey = Root + "modulepolicy"

// ModuleKey is where an operator says which versions of a package may be had. The
// name of one with a scope has a slash in it.
func ModuleKey(pkg string) string { return ModulesPrefix + pkg }

// BuildKey is how far the builder is with what is wanted ([WantID]).
func BuildKey(want string) string { return BuildsPrefix + want }

// SetKey is what is in a set.
func SetKey(set string) string { return SetsPrefix + set }

// BuilderElection is below what builders campaign for whose turn it is.
const BuilderElection = BuildersPrefix + "turn"

// TenantKey is where an operator writes a tenant's spec.
func TenantKey(tenant string) string { return TenantsPrefix + tenant }

// AppliedKey is where the scheduler keeps a tenant's last valid spec.
func AppliedKey(tenant string) string { return AppliedPrefix + tenant }

// HostKey is a host's presence.
func HostKey(host string) string { return HostsPrefix + host }

// CordonKey marks a host that takes no new placements.
func CordonKey(host string) string { return CordonsPrefix + host }

// DrainKey marks a host that is to have no placements at all.
func DrainKey(host string) string { return DrainsPrefix + host }

// InventoryKey is what the operator knows of a host.
func InventoryKey(host string) string { return InventoryPrefix + host }

// LoadKey is how busy the instances of a host are.
func LoadKey(host string) string { return LoadsPrefix + host }

// PlacementKey is one instance's placement on one host.
func PlacementKey(host, instance string) string { return PlacementsPrefix + host + "/" + instance }

// HostPlacements is the prefix of all placements on a host.
func HostPlacements(host string) string { return PlacementsPrefix + host + "/" }

// UnitKey is one rendered unit file for one host.
func UnitKey(host, unit string) string { return UnitsPrefix + host + "/" + unit }

// HostUnits is the prefix of all units for a host.
func HostUnits(host string) string { return UnitsPrefix + host + "/" }

// ManifestKey names the functions that a host has of a tenant.
func ManifestKey(host, tenant string) string { return ManifestsPrefix + host + "/" + tenant }

// HostManifests is the prefix of all manifests for a host.
func HostManifests(host string) string { return ManifestsPrefix + host + "/" }

// CopyKey is a host's copy of a tenant's function: an agent reads its own
// host's prefixes and nothing else.
func CopyKey(host, tenant, function string) string {
	return CopiesPrefix + host + "/" + tenant + "/" + function
}

// HostCopies is the prefix of all copies for a host.
func HostCopies(host string) string { return CopiesPrefix + host + "/" }

// RouteKey lets a host serve an instance.
func RouteKey(host, instance string) string { return RoutesPrefix + host + "/" + instance }

// InstanceKey is the observed state of an instance on a host.
func InstanceKey(host, instance string) string { return InstancesPrefix + host + "/" + instance }

// FunctionKey is one function of a tenant.
func FunctionKey(tenant, function string) string { return FunctionsPrefix + tenant + "/" + function }

// TenantFunctions is the prefix of all functions of a tenant.
func TenantFunctions(tenant string) string { return FunctionsPrefix + tenant + "/" }

// RevocationsKey says which tokens of a tenant are refused.
func RevocationsKey(tenant string) string { return RevocationsPrefix + tenant }

// TenantStatusKey is where the scheduler says what became of a tenant's spec.
func TenantStatusKey(tenant string) string { return StatusPrefix + "tenants/" + tenant }

// DistrustKey is where the scheduler says that it distrusts a host.
func DistrustKey(host string) string { return StatusPrefix + "hosts/" + host }

// SealingKey is what secrets are to be sealed with.
const SealingKey = SealingPrefix + "lock"

// HostBrakeKey stands while the scheduler moves nothing because most hosts
// vanished at once: the value is a [Brake]. Deleting it says that they are
// dead.
const HostBrakeKey = StatusPrefix + "brake/hosts"

// BrakeKey stands while the scheduler holds back the removal of many tenants
// at once: the value is a [Brake]. Deleting it confirms the removal.
const BrakeKey = StatusPrefix + "brake/tenants"

// RolloutKey is where an operator writes a rollout.
func RolloutKey(id string) string { return RolloutsPrefix + id }

// RolloutStatusKey is where the scheduler says how a rollout goes.
func RolloutStatusKey(id string) string { return StatusPrefix + "rollouts/" + id }

// CycleKey is a host's way through a patch, for as long as it lasts.
func CycleKey(host string) string { return CyclesPrefix + host }

// OrderKey is what a host is told to do.
func OrderKey(host string) string { return OrdersPrefix + host }

// ReportKey is what became of it.
func ReportKey(host string) string { return ReportsPrefix + host }

// AskKey is a host that wants its turn.
func AskKey(host string) string { return AsksPrefix + host }

// SplitKey returns the parts of a key after prefix, and false when key is not
// under prefix or has not exactly n non-empty parts.
func SplitKey(key, prefix string, n int) ([]string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return nil, false
	}
	parts := strings.Split(rest, "/")
	if len(parts) != n {
		return nil, false
	}
	for _, p := range parts {
		if p == "" {
			return nil, false
		}
	}
	return parts, true
}
