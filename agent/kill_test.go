package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead/agent"
	"bulkhead/agent/docker"
	"bulkhead/agent/docker/dockertest"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// processEnv carries the configuration of an agent that runs in a process of
// its own, so that it can be killed.
const processEnv = "BULKHEAD_TEST_AGENT"

type processConfig struct {
	Host      cluster.Host
	Endpoints []string
}

// runProcess is such a process: an agent until it is killed.
func runProcess(config string) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	fail := func(err error) {
		if err != nil {
			log.Error("agent process fails", "error", err)
			os.Exit(1)
		}
	}
	var c processConfig
	fail(json.Unmarshal([]byte(config), &c))
	cli, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints})
	fail(err)
	services, err := openServices(c.Host.Paths, log)
	fail(err)
	engine, err := docker.Open(c.Host.Name, log)
	fail(err)
	a, err := agent.New(agent.Config{
		Host: c.Host, Etcd: cli, Services: services, Engine: engine, Log: log,
		TTL: 5 * time.Second, Patience: 500 * time.Millisecond,
	})
	fail(err)
	fail(a.Run(context.Background()))
	os.Exit(0)
}

// agentProcess is a running agent process; its log comes line by line.
type agentProcess struct {
	cmd   *exec.Cmd
	lines chan string
}

func (s *site) startProcess() *agentProcess {
	s.t.Helper()
	config, err := json.Marshal(processConfig{s.host, s.server.Endpoints()})
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), processEnv+"="+string(config))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &agentProcess{cmd: cmd, lines: make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for r := bufio.NewScanner(stderr); r.Scan(); {
			fmt.Fprintln(s.t.Output(), cmd.Process.Pid, r.Text())
			select {
			case p.lines <- r.Text():
			default:
			}
		}
		io.Copy(io.Discard, stderr)
	}()
	s.t.Cleanup(p.kill)
	return p
}

// kill ends it as a power cut would, and waits for its log's end.
func (p *agentProcess) kill() {
	p.cmd.Process.Kill()
	for range p.lines {
	}
	p.cmd.Wait()
}

// until returns once the log has a line with these words.
func (p *agentProcess) until(t *testing.T, words string) {
	t.Helper()
	for line := range p.lines {
		if strings.Contains(line, words) {
			return
		}
	}
	t.Fatalf("the agent ended before it said %q", words)
}

// awaitTakenOver waits until an instance is reported ready after a revision.
func (s *site) awaitTakenOver(instance string, after int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for b := range etcd.Watch(ctx, s.etcd, cluster.InstanceKey(s.host.Name, instance)) {
		for _, e := range b.Events {
			var i cluster.Instance
			if e.Revision > after && json.Unmarshal(e.Value, &i) == nil && i.Phase == cluster.Ready {
				return
			}
		}
	}
	s.t.Fatal("nobody took over")
}

func (s *site) revision() int64 {
	r, err := s.etcd.Get(s.t.Context(), "x")
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Header.Revision
}

// runnerPID returns the pid of a runner, as its supervisor noted it or
// systemd says.
func (s *site) runnerPID(unit string) int {
	s.t.Helper()
	if systemd.Running() {
		out, err := exec.Command("systemctl", "show", "--property=MainPID", "--value", unit).Output()
		pid, convErr := strconv.Atoi(strings.TrimSpace(string(out)))
		if err = errors.Join(err, convErr); err != nil || pid == 0 {
			s.t.Fatalf("%s has no process: %v", unit, err)
		}
		return pid
	}
	var note struct{ Process struct{ PID int } }
	text, err := os.ReadFile(filepath.Join(s.host.Paths.Run, "supervisor/started", unit))
	if err == nil {
		err = json.Unmarshal(text, &note)
	}
	if err != nil || note.Process.PID == 0 {
		s.t.Fatalf("no runner noted: %v", err)
	}
	return note.Process.PID
}

func TestAgentKilledTakesOverWithoutRestarting(t *testing.T) {
	s := newSite(t, "agenttest-kill")
	a := s.startProcess()
	s.place(s.placement("killed.0", dockertest.Probe(t)))
	before := s.awaitReady("killed.0")
	if status := s.call("killed.0"); status != 401 {
		t.Fatalf("status %d, want 401", status)
	}
	a.until(t, "tell runner")
	pid := s.runnerPID("bulkhead-killed-0.service")
	for range 3 {
		at := s.revision()
		a.kill()
		if status := s.call("killed.0"); status != 401 {
			t.Errorf("status %d while no agent runs, want 401", status)
		}
		a = s.startProcess()
		s.awaitTakenOver("killed.0", at)
		if status := s.call("killed.0"); status != 401 {
			t.Errorf("status %d after taking over, want 401", status)
		}
		if now := s.runnerPID("bulkhead-killed-0.service"); now != pid {
			t.Errorf("the runner was process %d and is %d", pid, now)
		}
		if now := s.awaitReady("killed.0"); now.Container != before.Container {
			t.Errorf("the container was %.12s and is %.12s", before.Container, now.Container)
		}
	}
	a.kill()
}

func TestAgentKilledWhileItBuildsFinishesAfterwards(t *testing.T) {
	image := dockertest.Probe(t)
	for _, action := range []agent.Action{agent.MakeDirs, agent.WriteKeys, agent.WriteUnits, agent.TakeCell, agent.StartSocket} {
		t.Run(string(action), func(t *testing.T) {
			s := newSite(t, "agenttest-build")
			a := s.startProcess()
			s.place(s.placement("half.0", image))
			a.until(t, string(action))
			a.kill()
			b := s.startProcess()
			s.awaitReady("half.0")
			if status := s.call("half.0"); status != 401 {
				t.Errorf("status %d, want 401", status)
			}
			b.kill()
			e, err := docker.Open(s.host.Name, s.log)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if cs, err := e.List(t.Context()); err != nil || len(cs) != 1 {
				t.Errorf("%d containers (error %v), want 1", len(cs), err)
			}
		})
	}
}
