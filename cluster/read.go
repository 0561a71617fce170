package cluster

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
)

// reader turns a tree into typed values and collects all that is wrong with
// it on the way, so that a writer sees every mistake at once.
type reader struct{ problems []Problem }

// field is a known key of an object and what reads its value.
type field struct {
	name string
	read func(path string, n node)
}

// mostProblems are shown; nobody mends more at a time.
const mostProblems = 100

func (r *reader) wrong(path, wrong, right string) {
	if len(r.problems) >= mostProblems {
		return
	}
	r.problems = append(r.problems, Problem{Path: path, Wrong: wrong, Right: right})
}

func (r *reader) warn(path, wrong string) {
	r.problems = append(r.problems, Problem{Path: path, Wrong: wrong, Warning: true})
}

// is reports a value of another kind than wanted.
func (r *reader) is(path string, n node, kind, example string) bool {
	if n.kind == kind {
		return true
	}
	r.wrong(path, "is "+article(n.kind), "want "+example)
	return false
}

func article(kind string) string {
	switch kind {
	case "object":
		return "an object"
	case "null":
		return "null (leave a key out for its default)"
	case "true or false":
		return kind
	default:
		return "a " + kind
	}
}

// object reads the members of n by the fields known at path.
func (r *reader) object(path string, n node, fields ...field) {
	if !r.is(path, n, "object", fmt.Sprintf("an object: {%q: …}", fields[0].name)) {
		return
	}
	seen := map[string]bool{}
	for _, m := range n.members {
		at := join(path, m.name)
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == m.name })
		switch {
		case i < 0:
			r.unknown(path, m.name, fields)
		case seen[m.name]:
			r.wrong(at, "is there twice", "want it once")
		default:
			seen[m.name] = true
			fields[i].read(at, m.value)
		}
	}
}

func (r *reader) unknown(path, name string, fields []field) {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.name
	}
	right := fmt.Sprintf("known here: %s", list(known))
	if near := nearest(name, known); near != "" {
		right = fmt.Sprintf("did you mean %q?", near)
	}
	r.wrong(join(path, name), "unknown key", right)
}

// plain are names that are safe and useful to show; anything else might be a
// secret in the wrong place, or a screenful.
var plain = regexp.MustCompile(`^[A-Za-z0-9_.@/-]{1,31}$`)

func join(path, name string) string {
	if !plain.MatchString(name) {
		name = "(an odd name)"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func list(names []string) string {
	s := ""
	for i, name := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			s += " and "
		default:
			s += ", "
		}
		s += name
	}
	return s
}

// show quotes a value that is short and plain.
func show(s string) string {
	if plain.MatchString(s) {
		return strconv.Quote(s) + " "
	}
	return ""
}

func (r *reader) text(out *string) func(string, node) {
	return func(path string, n node) {
		if r.is(path, n, "text", `a text: "…"`) {
			*out = n.text
		}
	}
}

func (r *reader) integer(out *int, low, high int) func(string, node) {
	want := fmt.Sprintf("want a whole number from %d to %d", low, high)
	return func(path string, n node) {
		if n.kind != "number" {
			r.wrong(path, "is "+article(n.kind), want)
		} else if v, err := strconv.Atoi(n.text); err != nil || v < low || v > high {
			r.wrong(path, show(n.text)+"is out of range", want)
		} else {
			*out = v
		}
	}
}

func (r *reader) number(out *float64, low, high float64) func(string, node) {
	want := fmt.Sprintf("want a number from %v to %v", low, high)
	return func(path string, n node) {
		if n.kind != "number" {
			r.wrong(path, "is "+article(n.kind), want)
		} else if v, err := strconv.ParseFloat(n.text, 64); err != nil || math.IsNaN(v) || v < low || v > high {
			r.wrong(path, show(n.text)+"is out of range", want)
		} else {
			*out = v
		}
	}
}

func (r *reader) size(out *Bytes, low, high Bytes) func(string, node) {
	return func(path string, n node) {
		v, err := ParseBytes(n.text)
		switch {
		case n.kind != "text":
			r.wrong(path, "is "+article(n.kind)+" without a unit", errBytes.Error())
		case err != nil:
			r.wrong(path, show(n.text)+"is no size", errBytes.Error())
		case v < low || v > high:
			r.wrong(path, v.String()+" is out of range", fmt.Sprintf("want %s to %s", low, high))
		default:
			*out = v
		}
	}
}

func (r *reader) duration(out *Duration, low, high Duration) func(string, node) {
	return func(path string, n node) {
		v, err := ParseDuration(n.text)
		switch {
		case n.kind != "text":
			r.wrong(path, "is "+article(n.kind)+" without a unit", errDuration.Error())
		case err != nil:
			r.wrong(path, show(n.text)+"is no length of time", errDuration.Error())
		case v < low || v > high:
			r.wrong(path, v.String()+" is out of range", fmt.Sprintf("want %s to %s", low, high))
		default:
			*out = v
		}
	}
}

// texts reads an object of texts, each pair checked by check.
func (r *reader) texts(out *map[string]string, check func(path, name, value string)) func(string, node) {
	return func(path string, n node) {
		if !r.is(path, n, "object", `an object of texts: {"name": "value"}`) {
			return
		}
		m := make(map[string]string, len(n.members))
		for _, e := range n.members {
			at := join(path, e.name)
			if _, twice := m[e.name]; twice {
				r.wrong(at, "is there twice", "want it once")
			} else if r.is(at, e.value, "text", `a text: "…"`) {
				m[e.name] = e.value.text
				check(at, e.name, e.value.text)
			}
		}
		*out = m
	}
}

// list reads a list of at most most items.
func (r *reader) list(most int, item func(path string, n node)) func(string, node) {
	return func(path string, n node) {
		if !r.is(path, n, "list", "a list: […]") {
			return
		}
		if len(n.items) > most {
			r.wrong(path, fmt.Sprintf("has %d items", len(n.items)), fmt.Sprintf("want at most %d", most))
			return
		}
		for i, v := range n.items {
			item(fmt.Sprintf("%s[%d]", path, i), v)
		}
	}
}
