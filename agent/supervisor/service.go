package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// serviceSpec is what a service unit says.
type serviceSpec struct {
	Name        string
	Slice       string
	User, Group string
	Restart     string // no, on-failure or always
	RestartWait time.Duration
	StopTimeout time.Duration
	Limits      limits
	Credentials map[string]string // name to host path
	Jail        jailSpec
}

// jailSpec is what the jailer needs to know to become the service; it travels
// as JSON. Paths of Binds' sources and Root are the host's.
type jailSpec struct {
	Argv       []string
	Env        []string
	UID, GID   int
	UMask      int
	OOMScore   int
	Root       string
	Binds      []bind
	Namespaces uintptr // CLONE_NEW* flags; made by whoever starts the jailer
	Tmp, Dev   bool
	Proc       bool // a /proc that shows only the jail's own processes
	NoNewPrivs bool
	DropCaps   bool
	NewKeyring bool
	Rlimits    map[int]uint64
	Filter     filterSpec
	Listen     []string // names of the sockets from descriptor 3 on
	Cred       []string // names of the credentials that follow them
}

// bind is a path of the host that is seen in the jail.
type bind struct {
	Source, Target string
	ReadOnly       bool
	Optional       bool // no error when Source is absent
}

// filterSpec is what the system call filter does.
type filterSpec struct {
	Calls           []string // SystemCallFilter= lines, in order
	Families        []string // of sockets that may be made; empty: all
	NoNamespaces    bool
	NoWriteExecute  bool
	LockPersonality bool
}

// parseService reads a service unit.
func parseService(u unitFile) (serviceSpec, error) {
	r := &reader{unitFile: u, section: "Service"}
	s := serviceSpec{
		Name:        u.name,
		Slice:       u.last("Service", "Slice", "system.slice"),
		User:        u.last("Service", "User", ""),
		Group:       u.last("Service", "Group", ""),
		Restart:     u.last("Service", "Restart", "no"),
		RestartWait: read(r, "RestartSec", 100*time.Millisecond, parseSpan),
		StopTimeout: read(r, "TimeoutStopSec", 90*time.Second, parseSpan),
		Limits:      parseLimits(r),
		Credentials: map[string]string{},
	}
	for _, c := range u.all("Service", "LoadCredential") {
		name, path, ok := strings.Cut(c, ":")
		if !ok {
			r.fail("LoadCredential", c, errors.New("want name:path"))
		}
		s.Credentials[name] = path
	}
	s.Jail = parseJail(r)
	if err := s.Jail.Filter.check(); err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", u.name, err)
	}
	if r.err == nil && len(s.Jail.Argv) == 0 {
		r.err = fmt.Errorf("%s: no ExecStart=", u.name)
	}
	return s, r.err
}

func parseJail(r *reader) jailSpec {
	u := r.unitFile
	j := jailSpec{
		Argv:       strings.Fields(u.last("Service", "ExecStart", "")),
		Env:        u.words("Service", "Environment"),
		UMask:      read(r, "UMask", 0o022, parseOctal),
		OOMScore:   read(r, "OOMScoreAdjust", 0, strconv.Atoi),
		Root:       u.last("Service", "RootDirectory", ""),
		Tmp:        u.yes("Service", "PrivateTmp") && !slices.Contains(u.words("Service", "ReadOnlyPaths"), "+/tmp"),
		Dev:        u.yes("Service", "PrivateDevices"),
		Proc:       u.last("Service", "ProtectProc", "default") == "invisible",
		NoNewPrivs: u.yes("Service", "NoNewPrivileges"),
		DropCaps:   len(u.words("Service", "CapabilityBoundingSet")) == 0,
		NewKeyring: u.last("Service", "KeyringMode", "private") == "private",
		Rlimits:    map[int]uint64{},
		Namespaces: unix.CLONE_NEWNS,
	}
	for name, flag := range map[string]uintptr{"PrivateNetwork": unix.CLONE_NEWNET, "PrivateIPC": unix.CLONE_NEWIPC, "ProtectHostname": unix.CLONE_NEWUTS} {
		if u.yes("Service", name) {
			j.Namespaces |= flag
		}
	}
	if j.Proc {
		j.Namespaces |= unix.CLONE_NEWPID
	}
	for name, limit := range map[string]int{"LimitNOFILE": unix.RLIMIT_NOFILE, "LimitNPROC": unix.RLIMIT_NPROC, "LimitCORE": unix.RLIMIT_CORE} {
		if v := u.last("Service", name, ""); v != "" && v != "infinity" {
			j.Rlimits[limit] = uint64(read(r, name, 0, parseBytes))
		}
	}
	j.Binds = append(parseBinds(u, "BindReadOnlyPaths", true), parseBinds(u, "BindPaths", false)...)
	j.Filter = parseFilter(u)
	return j
}

// parseBinds reads source[:target] words; a dash before makes one optional.
func parseBinds(u unitFile, name string, readOnly bool) []bind {
	var bs []bind
	for _, w := range u.words("Service", name) {
		w, optional := strings.CutPrefix(w, "-")
		source, target, ok := strings.Cut(w, ":")
		if !ok {
			target = source
		}
		bs = append(bs, bind{source, target, readOnly, optional})
	}
	return bs
}

func parseFilter(u unitFile) filterSpec {
	return filterSpec{
		Calls:           u.all("Service", "SystemCallFilter"),
		Families:        u.words("Service", "RestrictAddressFamilies"),
		NoNamespaces:    u.yes("Service", "RestrictNamespaces"),
		NoWriteExecute:  u.yes("Service", "MemoryDenyWriteExecute"),
		LockPersonality: u.yes("Service", "LockPersonality"),
	}
}
