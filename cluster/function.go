package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// MaxFunction is the most a function's record may measure in etcd, whose
// requests end at 1.5 MiB.
const MaxFunction = MiB + 256*KiB

// FileEndings are the endings a function's file may have.
var FileEndings = []string{".js", ".cjs", ".mjs", ".ts"}

// DecodeFunction reads the value of a function's key, as strictly as
// [DecodeSpec] does a spec. File defaults to the function's name with ".js".
// Version is ignored: it is what [Function.Digest] says.
func DecodeFunction(name string, data []byte) (Function, []Problem) {
	f := Function{File: name + ".js"}
	r := &reader{}
	if err := CheckFunction(name); err != nil {
		r.wrong("", err.Error(), "")
	}
	root, problem := parseTree(data, MaxFunction)
	if problem != nil {
		r.problems = append(r.problems, *problem)
		return f, r.problems
	}
	var ignored string
	r.object("", root,
		field{"file", r.text(&f.File)},
		field{"code", r.text(&f.Code)},
		field{"meta", r.texts(&f.Meta, r.pair)},
		field{"secrets", r.texts(&f.Secrets, r.pair)},
		field{"sealed", r.text(&f.Sealed)},
		field{"limits", func(path string, n node) { f.Limits = &LowerLimits{}; r.lowerLimits(path, n, f.Limits) }},
		field{"modules", func(path string, n node) { f.Modules = &FunctionModules{}; r.functionModules(path, n, f.Modules) }},
		field{"created", func(path string, n node) { r.time(path, n, &f.Created) }},
		field{"version", r.text(&ignored)},
	)
	if root.kind == "object" {
		r.function(root, &f)
	}
	f.Version = f.Digest()
	return f, r.problems
}

func (r *reader) function(root node, f *Function) {
	if f.Code == "" {
		r.wrong("code", "is missing", "want the function's source")
	}
	switch {
	case f.Sealed != "" && len(f.Secrets) > 0:
		r.wrong("sealed", "is there beside secrets", "want one of them: sealed is made of secrets")
	case f.Sealed != "":
		r.sealed("sealed", f.Sealed)
	}
	if Bytes(len(f.Code)) > MiB {
		r.wrong("code", fmt.Sprintf("is %d bytes long", len(f.Code)), "want at most "+MiB.String())
	}
	if base := path.Base(f.File); base != f.File || !functionShape.matches(base) || !slices.Contains(FileEndings, path.Ext(base)) {
		r.wrong("file", "is no file's name we take", "want one without directories, ending in "+strings.Join(FileEndings, ", "))
	}
}

func (r *reader) pair(path, name, value string) {
	if name == "" || len(name) > 256 {
		r.wrong(path, fmt.Sprintf("has a name of %d bytes", len(name)), "want 1 to 256")
	}
}

func (r *reader) time(path string, n node, out *time.Time) {
	t, err := time.Parse(time.RFC3339Nano, n.text)
	if n.kind != "text" || err != nil {
		r.wrong(path, "is no time", `want one like "2026-11-22T13:00:00Z"`)
		return
	}
	*out = t
}

// Digest names the function's content: the SHA-256, in hex, of its JSON
// without Version and Created. Equal content has an equal digest, whenever
// and by whomever it was written.
func (f Function) Digest() string {
	f.Version, f.Created = "", time.Time{}
	if len(f.Meta) == 0 {
		f.Meta = nil
	}
	if len(f.Secrets) == 0 {
		f.Secrets = nil
	}
	data, err := json.Marshal(f) // map keys come sorted
	if err != nil {
		panic("cluster: a function of strings must marshal: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
