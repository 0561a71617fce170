package supervisor

import "slices"

// honoured are the directives that the supervisor carries out itself.
var honoured = []string{
	"Unit.Description", "Unit.Requires", "Unit.Wants", "Unit.After", "Unit.Before", "Install.WantedBy",
	"Slice.CPUQuota", "Slice.MemoryMax", "Slice.MemorySwapMax", "Slice.TasksMax",
	"Slice.CPUAccounting", "Slice.MemoryAccounting", "Slice.TasksAccounting",
	"Socket.ListenStream", "Socket.FileDescriptorName", "Socket.Service", "Socket.SocketUser", "Socket.SocketGroup",
	"Socket.SocketMode", "Socket.DirectoryMode", "Socket.Backlog", "Socket.NoDelay", "Socket.RemoveOnStop", "Socket.Slice",
	"Service.Type", "Service.ExecStart", "Service.Slice", "Service.Environment",
	"Service.Restart", "Service.RestartSec", "Service.TimeoutStopSec", "Service.KillMode", "Service.OOMScoreAdjust",
	"Service.MemoryMax", "Service.MemorySwapMax", "Service.TasksMax", "Service.CPUQuota", "Service.CPUWeight",
	"Service.LimitNOFILE", "Service.LimitNPROC", "Service.LimitCORE",
	"Service.DynamicUser", "Service.User", "Service.Group", "Service.UMask", "Service.LoadCredential",
	"Service.RootDirectory", "Service.BindPaths", "Service.BindReadOnlyPaths", "Service.ReadOnlyPaths",
	"Service.PrivateTmp", "Service.PrivateDevices", "Service.PrivateMounts", "Service.PrivateNetwork",
	"Service.PrivateIPC", "Service.ProtectHostname", "Service.ProtectProc", "Service.ProcSubset",
	"Service.NoNewPrivileges", "Service.CapabilityBoundingSet", "Service.AmbientCapabilities",
	"Service.SystemCallFilter", "Service.SystemCallArchitectures", "Service.SystemCallErrorNumber",
	"Service.RestrictAddressFamilies", "Service.RestrictNamespaces", "Service.LockPersonality", "Service.MemoryDenyWriteExecute", "Service.KeyringMode",
}

// implied are the directives that follow from the jail: its root is empty but
// for what the unit binds there, of which only what it starts can be executed; it runs without capabilities and in
// namespaces of its own, its only writable files are on mounts that ignore
// set-user-ID bits, and real-time scheduling is not among the calls that our
// filters allow. Without RootDirectory= they would not follow.
var implied = []string{
	"Service.ProtectSystem", "Service.ProtectHome", "Service.InaccessiblePaths", "Service.DevicePolicy",
	"Service.NoExecPaths", "Service.ExecPaths", "Service.TemporaryFileSystem",
	"Service.ProtectKernelTunables", "Service.ProtectKernelModules", "Service.ProtectKernelLogs",
	"Service.ProtectControlGroups", "Service.ProtectClock", "Service.RemoveIPC", "Service.IPAddressDeny",
	"Service.RestrictSUIDSGID", "Service.RestrictRealtime",
}

// replaced are the directives of which the supervisor has its own idea:
// restarts wait ever longer, whatever the limits on starting.
var replaced = []string{
	"Unit.StartLimitIntervalSec", "Unit.StartLimitBurst", "Socket.TriggerLimitIntervalSec", "Socket.TriggerLimitBurst",
}

// unhonoured returns the directives of a unit that the supervisor can't
// honour, each once.
func (u unitFile) unhonoured() []string {
	jailed := u.last("Service", "RootDirectory", "") != ""
	var names []string
	for _, o := range u.options {
		name := o.Section + "." + o.Name
		switch {
		case slices.Contains(honoured, name), slices.Contains(replaced, name), slices.Contains(names, o.Name+"="):
		case jailed && slices.Contains(implied, name):
		default:
			names = append(names, o.Name+"=")
		}
	}
	return names
}
