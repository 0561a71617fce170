package cluster

// Access lets a user of etcd read, or read and write, some keys.
type Access struct {
	Key    string // a key, or with Prefix all that begin so
	Prefix bool
	Write  bool
}

// RootUser is the operator's user in etcd, SchedulerUser that of every scheduler,
// and BuilderUser that of every builder. A user is the common name of a client
// certificate.
const (
	RootUser      = "root"
	SchedulerUser = "scheduler"
	BuilderUser   = "builder"
)

// AgentUser is the user of a host's agent, and ProxyUser that of its proxy.
func AgentUser(host string) string { return agentUsers + host }

// OperatorUser is the user of one of those who run the fleet.
func OperatorUser(name string) string { return operatorUsers + name }

// ProxyUser is the user of a host's proxy.
func ProxyUser(host string) string { return proxyUsers + host }

const (
	agentUsers = "agent-"
	proxyUsers = "proxy-"

	operatorUsers = "operator-"
)

// SchedulerAccess is what schedulers may do: read everything, write what they
// decide. Not the inventory and what secrets are sealed with, which are others'
// to say; tenants and functions are too, but schedulers seal what is in plain
// text there.
func SchedulerAccess() []Access {
	all := []Access{{Key: Root, Prefix: true}, {Key: ClaimKey(SchedulerUser), Write: true}}
	for _, prefix := range []string{
		AppliedPrefix, PlacementsPrefix, UnitsPrefix, ManifestsPrefix, CopiesPrefix, RoutesPrefix, StatusPrefix, ElectionPrefix,
		CyclesPrefix, OrdersPrefix, CordonsPrefix, DrainsPrefix, TenantsPrefix, FunctionsPrefix, AuditPrefix,
	} {
		all = append(all, Access{Key: prefix, Prefix: true, Write: true})
	}
	return all
}

// OperatorAccess is what one of those who run the fleet may do: read everything,
// write what is an operator's to say, and who he is. What machines there are and
// who may do what is root's.
func OperatorAccess(name string) []Access {
	all := []Access{{Key: Root, Prefix: true}, {Key: ClaimKey(OperatorUser(name)), Write: true}}
	for _, prefix := range []string{TenantsPrefix, AppliedPrefix, FunctionsPrefix, CordonsPrefix, DrainsPrefix, RolloutsPrefix, CyclesPrefix, AsksPrefix, RevocationsPrefix, ModulesPrefix, BuildsPrefix} {
		all = append(all, Access{Key: prefix, Prefix: true, Write: true})
	}
	return append(all, Access{Key: ModulePolicyKey, Write: true})
}

// BuilderAccess is what builders may do: read what is wanted and what is allowed,
// and write what came of it. Functions hold code and secrets, so a builder is
// trusted as a scheduler is.
func BuilderAccess() []Access {
	all := []Access{{Key: ModulePolicyKey}, {Key: ModulesPrefix, Prefix: true}, {Key: AppliedPrefix, Prefix: true}, {Key: ClaimKey(BuilderUser), Write: true}}
	for _, prefix := range []string{FunctionsPrefix, BuildsPrefix, SetsPrefix, BuildersPrefix} {
		all = append(all, Access{Key: prefix, Prefix: true, Write: true})
	}
	return all
}

// AgentAccess is what a host's agent may do: read what is meant for its host,
// say how its host is, and what became of its orders, and ask for its turn.
func AgentAccess(host string) []Access {
	return []Access{
		{Key: HostPlacements(host), Prefix: true},
		{Key: HostUnits(host), Prefix: true},
		{Key: HostManifests(host), Prefix: true},
		{Key: HostCopies(host), Prefix: true},
		{Key: OrderKey(host)},
		{Key: ReportKey(host), Write: true},
		{Key: AskKey(host), Write: true},
		{Key: HostKey(host), Write: true},
		{Key: LoadKey(host), Write: true},
		{Key: InstancesPrefix + host + "/", Prefix: true, Write: true},
	}
}

// ProxyAccess is what a host's proxy may do: know which host serves whom. No
// key or code of a tenant is in what it reads.
func ProxyAccess() []Access {
	return []Access{{Key: RoutesPrefix, Prefix: true}, {Key: InstancesPrefix, Prefix: true}}
}

// Users are all users that a fleet's etcd has but root, and what each may do.
func (f Fleet) Users() map[string][]Access {
	users := map[string][]Access{SchedulerUser: SchedulerAccess(), BuilderUser: BuilderAccess()}
	for _, name := range f.Operators {
		users[OperatorUser(name)] = OperatorAccess(name)
	}
	for _, h := range f.Workers() {
		users[AgentUser(h.Name)] = AgentAccess(h.Name)
		users[ProxyUser(h.Name)] = ProxyAccess()
	}
	return users
}
