// Package facts reads from a machine what its presence in etcd says of it:
// what tenants may use, versions, and which boot this is.
package facts

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bulkhead/cluster"
)

// reserve is what the host keeps of its memory for itself: a tenth, and not
// less than this, so that Docker, etcd and the proxy never starve.
const reserve = 512 << 20

// maxPids bounds what tenants get of the kernel's process ids.
const maxPids = 1 << 15

// Capacity is what the tenants of this machine may use together: its memory
// less a reserve, its cores, and half of its process ids.
func Capacity() (cluster.Resources, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return cluster.Resources{}, fmt.Errorf("cannot read the machine's memory: %w", err)
	}
	total := int64(info.Totalram) * int64(info.Unit)
	pids := int64(maxPids)
	if text, err := os.ReadFile("/proc/sys/kernel/pid_max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			pids = min(pids, n/2)
		}
	}
	return cluster.Resources{
		Memory: cluster.Bytes(total-max(total/10, reserve)) / cluster.MiB * cluster.MiB,
		CPU:    float64(runtime.NumCPU()),
		Pids:   int(pids),
	}, nil
}

// Boot changes with every boot. A container's restart leaves the kernel's
// boot id as it is, so the start of PID 1 belongs to it.
func Boot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot read the boot's id: %w", err)
	}
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return "", fmt.Errorf("cannot read when PID 1 started: %w", err)
	}
	// proc_pid_stat(5): the name, field 2, may hold anything but ends with the
	// last parenthesis; the start is field 22.
	_, after, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(after)
	if len(fields) < 20 {
		return "", fmt.Errorf("cannot read when PID 1 started: /proc/1/stat has %d fields", len(fields)+2)
	}
	return strings.TrimSpace(string(id)) + "-" + fields[19], nil
}

// Systemd reports whether systemd is PID 1 here (sd_booted(3)).
func Systemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Kernel and OS are what the machine runs, as its users name it.
func Kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// OS is the PRETTY_NAME of os-release(5).
func OS() string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	return prettyName(f)
}

func prettyName(r io.Reader) string {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(value, `"'`)
		}
	}
	return "unknown"
}
