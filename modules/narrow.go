package modules

import (
	"regexp"
	"strings"

	"bulkhead/cluster"
)

// mostParts bounds how long a narrowed range gets.
const mostParts = 64

var (
	exactly = regexp.MustCompile(`^[=v]*(\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?)$`)
	upTo    = regexp.MustCompile(`^(<=?)\s*(\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?)$`)
)

// narrow is a range of what is both wanted and allowed, so that npm chooses
// among nothing else. It leaves out of what is denied what npm's notation can
// say; the lock that comes of it is checked all the same.
func narrow(want string, a cluster.Allow) string {
	parts := alternatives(want)
	var allowed []string
	for _, text := range a.Allow {
		allowed = append(allowed, alternatives(text)...)
	}
	parts = both(parts, allowed)
	for _, text := range a.Deny {
		if m := exactly.FindStringSubmatch(text); m != nil {
			parts = both(parts, []string{"<" + m[1], ">" + m[1]})
		} else if m := upTo.FindStringSubmatch(text); m != nil {
			parts = both(parts, []string{map[string]string{"<": ">=", "<=": ">"}[m[1]] + m[2]})
		}
	}
	if len(parts) > mostParts {
		return want
	}
	return strings.Join(parts, " || ")
}

// alternatives are the parts of a range of which one has to hold.
func alternatives(text string) (parts []string) {
	for part := range strings.SplitSeq(hyphen.ReplaceAllString(text, ">=$1 <=$2"), "||") {
		if part = strings.TrimSpace(part); part == "" {
			part = "*"
		}
		parts = append(parts, part)
	}
	return parts
}

// both are the ranges in which one of each list holds.
func both(as, bs []string) (all []string) {
	for _, a := range as {
		for _, b := range bs {
			switch {
			case len(all) > mostParts:
				return all
			case a == "*" || a == b:
				all = append(all, b)
			case b == "*":
				all = append(all, a)
			default:
				all = append(all, a+" "+b)
			}
		}
	}
	return all
}
