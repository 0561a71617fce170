// Command probe is the program of dockertest.Probe: it listens on
// /run/cell/control.sock and answers each connection with what it finds out
// about its own confinement, as JSON; asked to "try" an address, with what
// became of that. With the argument "exit" it ends at once, with "calls" it
// answers how each of some system calls went, and what one costs.
package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "exit" {
		os.Exit(3)
	}
	answer := report
	if len(os.Args) > 1 && os.Args[1] == "calls" {
		answer = func() map[string]any {
			return map[string]any{"refused": try(calls), "needed": try(needed), "cost": cost()}
		}
	}
	l, err := net.Listen("unix", "/run/cell/control.sock")
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		// Who asks something gets the reply of a cell with a spare (docs/cell.md).
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		var ask struct{ Op, Network, Address string }
		if json.Unmarshal(b[:n], &ask); ask.Op == "try" {
			go func() {
				defer c.Close()
				json.NewEncoder(c).Encode(map[string]any{"id": 1, "error": reach(ask.Network, ask.Address)})
			}()
			continue
		}
		json.NewEncoder(c).Encode(answer())
		c.Close()
	}
}

// told are the paths that are to tell nothing of the host, and do.
func told() []string {
	list := []string{}
	for _, path := range []string{
		"/proc/cmdline", "/proc/modules", "/proc/kallsyms", "/proc/interrupts", "/proc/diskstats", "/proc/partitions", "/proc/iomem",
		"/proc/swaps", "/proc/vmstat", "/proc/zoneinfo", "/proc/devices", "/proc/timer_list", "/proc/sysvipc", "/proc/tty", "/proc/irq",
		"/sys/block", "/sys/bus", "/sys/class", "/sys/dev", "/sys/devices", "/sys/firmware", "/sys/kernel", "/sys/module", "/sys/power",
	} {
		text, _ := os.ReadFile(path)
		names, _ := os.ReadDir(path)
		if len(text)+len(names) > 0 {
			list = append(list, path)
		}
	}
	return list
}

// reach connects to an address, says something and waits for an answer; empty:
// it got one.
func reach(network, address string) string {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	c.Write([]byte("hello"))
	if _, err := c.Read(make([]byte, 5)); err != nil {
		return err.Error()
	}
	return ""
}

func report() map[string]any {
	links, _ := net.Interfaces()
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	status, _ := os.ReadFile("/proc/self/status")
	facts := map[string]any{
		"id": 1, "spares": 1,
		"uid": os.Getuid(), "gid": os.Getgid(), "links": names,
		"root":    os.WriteFile("/probe-was-here", nil, 0o600) == nil,
		"tmp":     os.WriteFile("/tmp/probe-was-here", nil, 0o700) == nil,
		"tmpfull": os.WriteFile("/tmp/big", make([]byte, 2<<20), 0o600) == nil,
	}
	facts["tells"] = told()
	os.Remove("/tmp/big") // or /tmp could not be made smaller
	for line := range strings.Lines(string(status)) {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "CapEff", "CapBnd", "NoNewPrivs", "Seccomp":
			facts[k] = strings.TrimSpace(v)
		}
	}
	return facts
}
