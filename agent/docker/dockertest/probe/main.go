// Command probe is the program of dockertest.Probe: it listens on
// /run/cell/control.sock and answers each connection with what it finds out
// about its own confinement, as JSON. With the argument "exit" it ends at once,
// with "calls" it answers how each of some system calls went, and what one costs.
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
		c.Read(make([]byte, 4096))
		json.NewEncoder(c).Encode(answer())
		c.Close()
	}
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
