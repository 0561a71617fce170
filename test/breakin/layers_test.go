package breakin

// layer is one thing that stands in between, and how to take it away.
type layer struct {
	name string
	// of a runner: lines of its unit, below [Service]
	unit     string
	unsealed bool
	// of a container: as the engine is told
	container func(config, host object)
}

// object is JSON's.
type object = map[string]any

// runnerLayers are the directives of a runner's unit in groups that have one
// purpose each, and what the runner does to itself.
var runnerLayers = []layer{
	{name: "its own root", unit: "RootDirectory="},
	{name: "its own user", unit: "DynamicUser=no\nUser=root"},
	{name: "PrivateUsers", unit: "PrivateUsers=no"},
	{name: "capabilities", unit: "CapabilityBoundingSet=~"},
	{name: "NoNewPrivileges", unit: "NoNewPrivileges=no"},
	{name: "SystemCallFilter", unit: "SystemCallFilter=\nSystemCallArchitectures="},
	{name: "RestrictAddressFamilies", unit: "RestrictAddressFamilies="},
	{name: "RestrictNamespaces", unit: "RestrictNamespaces=no"},
	{name: "no network", unit: "PrivateNetwork=no\nIPAddressDeny="},
	{name: "read-only", unit: "ProtectSystem=no\nProtectHome=no\nReadOnlyPaths="},
	{name: "NoExecPaths", unit: "NoExecPaths=\nExecPaths="},
	{name: "ProtectProc", unit: "ProtectProc=default\nProcSubset=all"},
	{name: "InaccessiblePaths", unit: "InaccessiblePaths="},
	{name: "devices", unit: "PrivateDevices=no\nDevicePolicy=auto"},
	{name: "ProtectKernel…, …Clock, …ControlGroups, …Hostname", unit: "ProtectKernelTunables=no\nProtectKernelModules=no\nProtectKernelLogs=no\nProtectClock=no\nProtectControlGroups=no\nProtectHostname=no"},
	{name: "MemoryDenyWriteExecute", unit: "MemoryDenyWriteExecute=no"},
	{name: "PrivateIPC", unit: "PrivateIPC=no\nRemoveIPC=no"},
	{name: "LockPersonality, RestrictRealtime, …SUIDSGID", unit: "LockPersonality=no\nRestrictRealtime=no\nRestrictSUIDSGID=no"},
	{name: "KeyringMode", unit: "KeyringMode=inherit"},
	{name: "limits", unit: "TasksMax=infinity\nMemoryMax=infinity\nLimitNOFILE=524288\nLimitCORE=infinity"},
	{name: "limits of its slice", unit: "Slice=system.slice"},
	{name: "no /run", unit: "TemporaryFileSystem="},
	{name: "what it gives up itself", unsealed: true},
}

// cellLayers are what a cell's container is given or denied.
var cellLayers = []layer{
	{name: "its own user", container: func(config, _ object) { config["User"] = "0:0" }},
	{name: "capabilities", container: func(_, host object) { host["CapDrop"], host["CapAdd"] = nil, capabilities }},
	// Without it the runtime is under the filter while it gives up capabilities,
	// which ours refuses it: such a container does not start.
	{name: "no-new-privileges, with Docker's own filter", container: func(_, host object) {
		secure(host, "no-new-privileges", "")
		secure(host, "seccomp=", "")
	}},
	{name: "the filter of system calls", container: func(_, host object) { secure(host, "seccomp=", "seccomp=unconfined") }},
	{name: "masked paths of /proc and /sys", container: func(_, host object) { host["MaskedPaths"], host["ReadonlyPaths"] = []string{}, []string{} }},
	{name: "read-only root", container: func(_, host object) { host["ReadonlyRootfs"] = false }},
	{name: "/tmp without execution", container: func(_, host object) { host["Tmpfs"] = object{"/tmp": "rw,exec,suid,dev,size=16m,mode=1777"} }},
	{name: "its own network", container: func(config, host object) { config["NetworkDisabled"], host["NetworkMode"] = false, "host" }},
	{name: "its own IPC", container: func(_, host object) { host["IpcMode"] = "host" }},
	{name: "its own processes", container: func(_, host object) { host["PidMode"] = "host" }},
	{name: "its own cgroups", container: func(_, host object) { host["CgroupnsMode"] = "host" }},
	{name: "devices", container: func(_, host object) { host["DeviceCgroupRules"] = []string{"a *:* rwm"} }},
	{name: "what the cell gives up itself", container: func(config, _ object) { config["Env"] = config["Env"].([]string)[:1] }},
	{name: "limits", container: func(_, host object) {
		host["PidsLimit"], host["Ulimits"], host["Memory"], host["MemorySwap"] = 0, nil, 0, 0
	}},
}

// capabilities are those that a container can be given on a test host, which is
// a container itself.
var capabilities = []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "SETUID", "SETGID", "SETPCAP", "KILL", "SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "SYS_NICE", "MKNOD", "SYSLOG", "NET_ADMIN", "NET_RAW"}

// secure replaces the security option that begins so.
func secure(host object, begins, with string) {
	var kept []any
	for _, o := range host["SecurityOpt"].([]any) {
		if text := o.(string); len(text) < len(begins) || text[:len(begins)] != begins {
			kept = append(kept, o)
		}
	}
	if with != "" {
		kept = append(kept, with)
	}
	host["SecurityOpt"] = kept
}
