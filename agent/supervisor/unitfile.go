package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
)

// unitFile is a parsed unit file.
type unitFile struct {
	name    string
	options []*unit.UnitOption
}

func parseUnit(name, text string) (unitFile, error) {
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		return unitFile{}, fmt.Errorf("cannot parse unit %s: %w", name, err)
	}
	return unitFile{name, options}, nil
}

// kind is slice, socket or service.
func (u unitFile) kind() string { return u.name[strings.LastIndex(u.name, ".")+1:] }

// all returns the values of a directive in order; an empty one drops those
// before it, as in systemd.
func (u unitFile) all(section, name string) []string {
	var values []string
	for _, o := range u.options {
		switch {
		case o.Section != section || o.Name != name:
		case o.Value == "":
			values = nil
		default:
			values = append(values, o.Value)
		}
	}
	return values
}

// words returns the words of all values of a directive.
func (u unitFile) words(section, name string) []string {
	return strings.Fields(strings.Join(u.all(section, name), " "))
}

// last returns the value in force of a directive that holds one.
func (u unitFile) last(section, name, otherwise string) string {
	if all := u.all(section, name); len(all) > 0 {
		return all[len(all)-1]
	}
	return otherwise
}

func (u unitFile) yes(section, name string) bool {
	switch strings.ToLower(u.last(section, name, "no")) {
	case "yes", "true", "on", "1":
		return true
	}
	return false
}

// reader reads directives' values and keeps the first error.
type reader struct {
	unitFile
	section string
	err     error
}

func (r *reader) fail(name, value string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s=%s: %w", r.name, name, value, err)
	}
}

func read[T any](r *reader, name string, otherwise T, parse func(string) (T, error)) T {
	text := r.last(r.section, name, "")
	if text == "" {
		return otherwise
	}
	v, err := parse(text)
	if err != nil {
		r.fail(name, text, err)
		return otherwise
	}
	return v
}

// parseSpan reads a time span: a number of seconds, or with a unit.
func parseSpan(s string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Duration(n * float64(time.Second)), nil
	}
	return time.ParseDuration(strings.ReplaceAll(s, "min", "m"))
}

// parseBytes reads a size: bytes, or with K, M, G or T for powers of 1024.
func parseBytes(s string) (int64, error) {
	if s == "infinity" {
		return -1, nil
	}
	shift := 0
	if i := strings.IndexByte("KMGT", s[len(s)-1]); i >= 0 {
		s, shift = s[:len(s)-1], 10*(i+1)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n << shift, err
}

func parseOctal(s string) (int, error) {
	n, err := strconv.ParseUint(s, 8, 12)
	return int(n), err
}

func parsePercent(s string) (int64, error) {
	return strconv.ParseInt(strings.TrimSuffix(s, "%"), 10, 64)
}
