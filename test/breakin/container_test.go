package breakin

import (
	"encoding/json"
	"fmt"
	"strings"

	"bulkhead/test/breakin/breach"
)

// containers runs the burglar in containers like the attacker's cell, which the
// agent has made: the engine is asked how that is made, and for another with
// the burglar as its program, without the layers that are to be away.
func (s *site) containers(away [][]layer) []map[string]breach.Attempt {
	s.t.Helper()
	var shown struct {
		Instances []struct{ Container string }
	}
	s.decode(s.Exec(bulkhead, "tenant", "show", "attacker", "-o", "json"), &shown)
	if len(shown.Instances) != 1 || shown.Instances[0].Container == "" {
		s.t.Fatalf("the attacker has no cell: %+v", shown)
	}
	var made []string
	for i, layers := range away {
		var real []struct{ Config, HostConfig object }
		s.decode(s.Exec("docker", "inspect", shown.Instances[0].Container), &real)
		config, host := real[0].Config, real[0].HostConfig
		config["Entrypoint"], config["Cmd"], config["Labels"] = []string{"/burglar"}, nil, nil
		config["Env"] = []string{breach.OrdersEnv + "=" + text(s.orders), breach.ConfinedEnv + "=yes"}
		mounts, _ := host["Mounts"].([]any)
		host["Mounts"] = append(mounts, object{"Type": "bind", "Source": "/opt/breakin/burglar", "Target": "/burglar", "ReadOnly": true})
		for _, l := range layers {
			l.container(config, host)
		}
		config["HostConfig"] = host
		body, err := json.Marshal(config)
		if err != nil {
			s.t.Fatal(err)
		}
		name := fmt.Sprintf("breakin-%d", i)
		s.Feed(strings.NewReader(string(body)), "curl", "-sS", "--fail-with-body", "--unix-socket", "/run/docker.sock", "-H", "Content-Type: application/json",
			"--data-binary", "@-", "http://docker/containers/create?name="+name)
		made = append(made, name)
	}
	var got []map[string]breach.Attempt
	s.Exec(append([]string{"docker", "start"}, made...)...)
	s.Exec(append([]string{"timeout", "300", "docker", "wait"}, made...)...)
	for i, name := range made {
		got = append(got, s.attempts("the container without "+names(away[i]), s.Exec("docker", "logs", name)))
	}
	return got
}

func (s *site) decode(text string, v any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.t.Fatalf("%v: %s", err, text)
	}
}
