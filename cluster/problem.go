package cluster

import "strings"

// Problem is one thing wrong (or, as a Warning, one thing to know) in what an
// operator or a tenant wrote. It never quotes a secret.
type Problem struct {
	Path    string // where: "limits.wall", "keys[0].secret"; empty: the whole
	Wrong   string // what is wrong
	Right   string // what would be right; may be empty
	Warning bool   // accepted all the same
}

// String is the problem in one line: "limits.wal: unknown key; did you mean
// "wall"?".
func (p Problem) String() string {
	var b strings.Builder
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Wrong)
	if p.Right != "" {
		b.WriteString("; " + p.Right)
	}
	return b.String()
}

// Invalid is the error made of those problems that are not warnings, one a
// line; nil when there are none.
func Invalid(problems []Problem) error {
	var lines invalid
	for _, p := range problems {
		if !p.Warning {
			lines = append(lines, p.String())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return lines
}

// Warnings are the problems that didn't stop a value from being accepted.
func Warnings(problems []Problem) []string {
	var lines []string
	for _, p := range problems {
		if p.Warning {
			lines = append(lines, p.String())
		}
	}
	return lines
}

type invalid []string

// Error joins the problems, one a line.
func (e invalid) Error() string { return strings.Join(e, "\n") }

// nearest returns the name among known that is closest to got, or "" when
// none is near enough to be what was meant.
func nearest(got string, known []string) string {
	if len(got) > 32 {
		return ""
	}
	best, bestDistance := "", 1+max(1, len(got)/3)
	for _, name := range known {
		if d := distance(strings.ToLower(got), strings.ToLower(name)); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
