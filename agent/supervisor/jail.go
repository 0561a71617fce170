package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// jailArg is the first argument that makes a start of this binary a jail.
const jailArg = "bulkhead-jail"

// MaybeJail must be the first thing that main does. In a process that the
// supervisor started it makes the jail around itself, becomes the service and
// never returns; in any other it returns at once.
func MaybeJail() {
	if len(os.Args) != 4 || os.Args[1] != jailArg {
		return
	}
	// What follows changes this thread alone; the service is what this thread
	// becomes.
	runtime.LockOSThread()
	config, _ := strconv.Atoi(os.Args[2])
	status, _ := strconv.Atoi(os.Args[3])
	unix.CloseOnExec(status)
	err := enterJail(config)
	// Only reached when it failed: the supervisor reads why.
	fmt.Fprint(os.NewFile(uintptr(status), "status"), err)
	os.Exit(1)
}

func enterJail(config int) error {
	f := os.NewFile(uintptr(config), "config")
	var j jailSpec
	if err := json.NewDecoder(f).Decode(&j); err != nil {
		return fmt.Errorf("cannot read the jail's configuration: %w", err)
	}
	f.Close()
	for _, step := range []struct {
		what string
		do   func(jailSpec) error
	}{
		{"set its out-of-memory score", setOOMScore},
		{"make its root", makeRoot},
		{"set its limits", setRlimits},
		{"drop its privileges", dropPrivileges},
		{"filter its system calls", func(j jailSpec) error { return j.Filter.load() }},
	} {
		if err := step.do(j); err != nil {
			return fmt.Errorf("cannot %s: %w", step.what, err)
		}
	}
	if err := unix.Exec(j.Argv[0], j.Argv, j.environment()); err != nil {
		return fmt.Errorf("cannot execute %s: %w", j.Argv[0], err)
	}
	return nil
}

// environment adds what names the descriptors (sd_listen_fds(3)): sockets
// come first, then credentials.
func (j jailSpec) environment() []string {
	env := append([]string{}, j.Env...)
	if len(j.Listen) > 0 {
		env = append(env, "LISTEN_PID="+strconv.Itoa(os.Getpid()),
			"LISTEN_FDS="+strconv.Itoa(len(j.Listen)), "LISTEN_FDNAMES="+strings.Join(j.Listen, ":"))
	}
	var creds []string
	for i, name := range j.Cred {
		creds = append(creds, fmt.Sprintf("%s=%d", name, firstFD+len(j.Listen)+i))
	}
	if len(creds) > 0 {
		env = append(env, "BULKHEAD_CREDENTIAL_FDS="+strings.Join(creds, ","))
	}
	return env
}

// setOOMScore tries: lowering it takes a capability that not every machine's
// root has.
func setOOMScore(j jailSpec) error {
	err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(j.OOMScore)), 0)
	if os.IsPermission(err) {
		return nil
	}
	return err
}

func setRlimits(j jailSpec) error {
	for which, value := range j.Rlimits {
		var now unix.Rlimit
		if err := unix.Getrlimit(which, &now); err != nil {
			return err
		}
		want := unix.Rlimit{Cur: min(value, now.Max), Max: min(value, now.Max)}
		if err := unix.Prlimit(0, which, &want, nil); err != nil {
			return err
		}
	}
	unix.Umask(j.UMask)
	return nil
}

// dropPrivileges gives up, for good, what the unit doesn't keep.
func dropPrivileges(j jailSpec) error {
	if j.NewKeyring {
		if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS && err != unix.EPERM {
			return fmt.Errorf("keyring: %w", err)
		}
	}
	if j.DropCaps {
		for c := 0; c <= unix.CAP_LAST_CAP; c++ {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL {
				return fmt.Errorf("capability %d: %w", c, err)
			}
		}
	}
	if j.UID != 0 {
		if err := unix.Setgroups(nil); err != nil {
			return fmt.Errorf("groups: %w", err)
		}
		if err := unix.Setresgid(j.GID, j.GID, j.GID); err != nil {
			return fmt.Errorf("group %d: %w", j.GID, err)
		}
		if err := unix.Setresuid(j.UID, j.UID, j.UID); err != nil {
			return fmt.Errorf("user %d: %w", j.UID, err)
		}
	}
	if j.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no new privileges: %w", err)
		}
	}
	return nil
}
