package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
)

// Limits that a function's record, and a token, may set below the tenant's.
var (
	functionLimits = []string{"block", "cpu", "wall", "background", "body", "rate", "concurrency"}
	tokenLimits    = []string{"wall", "body", "rate", "concurrency"}
)

func addLimitFlag(c *cobra.Command, given *[]string, names []string) {
	c.Flags().StringSliceVar(given, "limit", nil, "name=value: a limit below the tenant's, of "+strings.Join(names, ", ")+"; may be repeated")
}

// lowerLimits reads name=value flags; nil when there are none.
func lowerLimits(given, names []string) (*cluster.LowerLimits, error) {
	if len(given) == 0 {
		return nil, nil
	}
	l := &cluster.LowerLimits{}
	for _, g := range given {
		name, value, ok := strings.Cut(g, "=")
		if !ok || !slices.Contains(names, name) {
			return nil, usageError(fmt.Errorf("--limit %s: want name=value, where name is one of %s", g, strings.Join(names, ", ")))
		}
		text := value // a number
		if name != "rate" && name != "concurrency" {
			quoted, _ := json.Marshal(value)
			text = string(quoted)
		}
		if err := json.Unmarshal(fmt.Appendf(nil, `{%q: %s}`, name, text), l); err != nil {
			return nil, badLimit(g, name, err)
		}
	}
	return l, nil
}

func badLimit(given, name string, err error) error {
	want := errors.Unwrap(err) // of a size or a time, which say what they want
	switch {
	case name == "rate":
		want = errors.New("want a number")
	case name == "concurrency":
		want = errors.New("want a whole number")
	case want == nil:
		want = err
	}
	return &failure{exitInvalid, fmt.Errorf("--limit %s: %w", given, want), ""}
}
