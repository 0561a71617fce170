package cluster

import (
	"fmt"
	"regexp"
	"time"
)

// maxRollout is the most a rollout's JSON may measure.
const maxRollout = 512 * KiB

var (
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	actionPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$`)
)

// DefaultRollout is a rollout with everything but its kind and what that
// needs.
func DefaultRollout() Rollout {
	return Rollout{
		Pace: Pace{AtOnce: 1, Canary: 1, Watch: Duration(time.Minute)},
		Gate: DefaultGate(),
	}
}

// DefaultGate is what a host must pass where nothing else is said.
func DefaultGate() Gate {
	return Gate{Back: Duration(15 * time.Minute), Steady: Duration(10 * time.Second), Move: Duration(5 * time.Minute)}
}

// CheckRollout returns an error unless id can be a rollout's: like a host's
// name, and not [FleetLock], which is whom hosts' own cycles are for.
func CheckRollout(id string) error {
	if !hostShape.matches(id) || id == FleetLock {
		return fmt.Errorf("rollout id %q: want 1 to 63 of a-z, 0-9, . and -, starting and ending with a letter or digit, and not %s", id, FleetLock)
	}
	return nil
}

// DecodeRollout reads the value of a rollout's key as strictly as [DecodeSpec]
// does a spec, and returns all that is wrong with it.
func DecodeRollout(id string, data []byte) (Rollout, []Problem) {
	v := DefaultRollout()
	r := &reader{}
	if err := CheckRollout(id); err != nil {
		r.wrong("", err.Error(), "")
	}
	root, problem := parseTree(data, maxRollout)
	if problem != nil {
		r.problems = append(r.problems, *problem)
		return v, r.problems
	}
	kind := ""
	r.object("", root,
		field{"kind", r.oneOf(&kind, string(RolloutOS), string(RolloutImage), string(RolloutAgent))},
		field{"labels", r.texts(&v.Labels, r.label)},
		field{"hosts", r.list(maxHosts, func(path string, n node) {
			var host string
			r.matching(&host, func(s string) bool { return hostShape.matches(s) }, `a host's name, like "h1"`)(path, n)
			v.Hosts = append(v.Hosts, host)
		})},
		field{"action", r.matching(&v.Action, actionPattern.MatchString, `the name of an action in the hosts' own configuration, like "reboot"`)},
		field{"image", r.matching(&v.Image, digestPattern.MatchString, `an image's ID: sha256: and 64 hexadecimal digits`)},
		field{"release", r.matching(&v.Release, digestPattern.MatchString, `a release's digest: sha256: and 64 hexadecimal digits`)},
		field{"pace", func(path string, n node) { r.pace(path, n, &v.Pace) }},
		field{"gate", func(path string, n node) { r.gate(path, n, &v.Gate) }},
		field{"paused", r.boolean(&v.Paused)},
		field{"aborted", r.boolean(&v.Aborted)},
		field{"undo", r.boolean(&v.Undo)},
		field{"alone", r.boolean(&v.Alone)},
	)
	v.Kind = RolloutKind(kind)
	if root.kind == "object" && len(r.problems) == 0 {
		r.rollout(&v)
	}
	return v, r.problems
}

// rollout checks what only the whole can show, and fills in what os rollouts
// do if nothing else is said.
func (r *reader) rollout(v *Rollout) {
	if v.Kind == RolloutOS && v.Action == "" {
		v.Action = "reboot"
	}
	twice := map[string]bool{}
	for i, host := range v.Hosts {
		if twice[host] {
			r.wrong(fmt.Sprintf("hosts[%d]", i), show(host)+"is there twice", "want each host once")
		}
		twice[host] = true
	}
	for _, of := range []struct {
		kind        RolloutKind
		path, value string
		right       string
	}{
		{RolloutOS, "action", v.Action, ""},
		{RolloutImage, "image", v.Image, `want the ID of the image, like "sha256:…" (bulkhead image build prints it)`},
		{RolloutAgent, "release", v.Release, `want the release's digest, like "sha256:…"`},
	} {
		switch {
		case v.Kind == of.kind && of.value == "":
			r.wrong(of.path, "is missing", of.right)
		case v.Kind != "" && v.Kind != of.kind && of.value != "":
			r.wrong(of.path, fmt.Sprintf("goes with the kind %s, not %s", of.kind, v.Kind), "leave it out, or change the kind")
		}
	}
	switch {
	case v.Kind == "":
		r.wrong("kind", "is missing", "want os, image or agent")
	case len(v.Hosts) > 0 && len(v.Labels) > 0:
		r.wrong("labels", "is there beside hosts", "want one of them")
	case v.Undo && v.Kind == RolloutOS:
		r.wrong("undo", "can't be had of an os rollout", "choose the earlier system on the host itself, as its distribution does it, and roll that out as an action")
	case v.Alone && v.Kind != RolloutOS:
		r.wrong("alone", "goes with the kind os", "leave it out: image and agent rollouts take nothing away")
	}
}

func (r *reader) pace(path string, n node, p *Pace) {
	r.object(path, n,
		field{"at_once", r.integer(&p.AtOnce, 1, 1000)},
		field{"canary", r.integer(&p.Canary, 1, 1000)},
		field{"watch", r.duration(&p.Watch, Duration(time.Second), Duration(7*24*time.Hour))},
	)
}

func (r *reader) gate(path string, n node, g *Gate) {
	second, day := Duration(time.Second), Duration(24*time.Hour)
	r.object(path, n,
		field{"back", r.duration(&g.Back, second, day)},
		field{"steady", r.duration(&g.Steady, second, day)},
		field{"move", r.duration(&g.Move, second, day)},
	)
}

func (r *reader) boolean(out *bool) func(string, node) {
	return func(path string, n node) {
		if r.is(path, n, "true or false", "true or false") {
			*out = n.text == "true"
		}
	}
}
