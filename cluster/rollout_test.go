package cluster

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestRolloutsAreReadStrictly(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct{ id, text, want string }{
		{"r1", `{"kind":"os"}`, ""},
		{"r1", `{"kind":"image","image":"` + digest + `","labels":{"zone":"a"},"pace":{"at_once":2,"canary":3,"watch":"5m"},"gate":{"back":"20m"}}`, ""},
		{"r1", `{"kind":"agent","release":"` + digest + `","hosts":["h1","h2"],"paused":true}`, ""},
		{"r1", ``, "is empty"},
		{"r1", `[]`, "want an object"},
		{"r1", `{}`, "kind: is missing; want os, image or agent"},
		{"r1", `{"kind":"kernel"}`, `kind: "kernel" is not known; want one of os, image and agent`},
		{"r1", `{"kind":"imgae"}`, `did you mean "image"?`},
		{"r1", `{"kind":"image"}`, "image: is missing; want the ID of the image"},
		{"r1", `{"kind":"image","image":"node:22"}`, "image: is none; want an image's ID: sha256: and 64 hexadecimal digits"},
		{"r1", `{"kind":"os","image":"` + digest + `"}`, "image: goes with the kind image, not os"},
		{"r1", `{"kind":"os","action":"rm -rf /"}`, "action: is none; want the name of an action"},
		{"r1", `{"kind":"os","hsots":["h1"]}`, `hsots: unknown key; did you mean "hosts"?`},
		{"r1", `{"kind":"os","hosts":["h1","h1"]}`, `hosts[1]: "h1" is there twice`},
		{"r1", `{"kind":"os","hosts":["h1"],"labels":{"a":"b"}}`, "labels: is there beside hosts"},
		{"r1", `{"kind":"os","pace":{"at_once":0}}`, "pace.at_once: \"0\" is out of range"},
		{"r1", `{"kind":"os","gate":{"back":15}}`, "gate.back: is a number without a unit"},
		{"r1", `{"kind":"os","undo":true}`, "undo: can't be had of an os rollout"},
		{"r1", `{"kind":"os","paused":"yes"}`, "paused: is a text"},
		{"r1", `{"kind":"image","image":"` + digest + `","alone":true}`, "alone: goes with the kind os"},
		{"fleetlock", `{"kind":"os"}`, "and not fleetlock"},
		{"a/b", `{"kind":"os"}`, "rollout id"},
	} {
		_, problems := DecodeRollout(c.id, []byte(c.text))
		err := Invalid(problems)
		if got := ""; err != nil && c.want != "" {
			if got = err.Error(); !strings.Contains(got, c.want) {
				t.Errorf("%s: got %q, want %q", c.text, got, c.want)
			}
		} else if (err == nil) != (c.want == "") {
			t.Errorf("%s: got %v, want %q", c.text, err, c.want)
		}
	}
}

func TestRolloutsHaveDefaultsAndSurviveBeingWritten(t *testing.T) {
	r, problems := DecodeRollout("r1", []byte(`{"kind":"os","gate":{"steady":"3s"}}`))
	if len(problems) > 0 || r.Action != "reboot" || r.Pace.AtOnce != 1 || r.Pace.Canary != 1 || r.Gate.Back != Duration(15*time.Minute) || r.Gate.Steady != Duration(3*time.Second) {
		t.Fatalf("%+v %v", r, problems)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, problems := DecodeRollout("r1", data)
	if text, _ := json.Marshal(again); len(problems) > 0 || string(text) != string(data) {
		t.Errorf("%s became %s: %v", data, text, problems)
	}
}
