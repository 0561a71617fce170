package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"bulkhead/internal/etcd"
)

// Exit codes, as docs/cli.md has them.
const (
	exitOK          = 0
	exitFailure     = 1 // something else went wrong
	exitUsage       = 2 // the command line makes no sense
	exitNotFound    = 3 // no such tenant, function, key or file
	exitInvalid     = 4 // a spec, a function or an argument's value is not valid
	exitUnreachable = 5 // neither etcd nor the proxy answers
	exitRefused     = 6 // 401 or 403: not with this token
	exitCode        = 7 // the function was called and answered with an error
	exitLate        = 8 // written, but not in force within --timeout
)

// failure is an error that knows its exit code and the way out.
type failure struct {
	code int
	err  error
	hint string // what to do now, in one sentence
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, hint, format string, args ...any) error {
	return &failure{code, fmt.Errorf(format, args...), hint}
}

func usageError(err error) error {
	return &failure{exitUsage, err, "add --help to any command to see what it takes"}
}

// fail prints an error and returns its exit code.
func (a *app) fail(err error) int {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: exitFailure, err: err}
		if errors.Is(err, etcd.ErrUnreachable) {
			f.code = exitUnreachable
		}
	}
	if a.output == "json" {
		data, _ := json.Marshal(struct {
			Error string `json:"error"`
			Hint  string `json:"hint,omitempty"`
			Code  int    `json:"exit_code"`
		}{err.Error(), f.hint, f.code})
		fmt.Fprintln(a.stdio.err, string(data))
		return f.code
	}
	fmt.Fprintln(plainWriter{a.stdio.err}, "bulkhead:", err)
	if f.hint != "" {
		fmt.Fprintln(a.stdio.err, "  →", f.hint)
	}
	return f.code
}
