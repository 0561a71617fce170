package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
)

// lookEvery is how often files are looked at for new lines.
const lookEvery = 200 * time.Millisecond

// fileLines says the lines that are in the files of a host without a journal:
// one a runner, and one more of what was before.
func fileLines(ctx context.Context, dir string, q logQuery, say func(logLine)) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fail(exitNotFound, "run it where the tenant's instances are: bulkhead tenant show "+q.tenant, "no logs are kept below %s", dir)
	} else if err != nil {
		return fail(exitUnreachable, "run it with sudo, or as root", "cannot read logs: %w", err)
	}
	pattern := filepath.Join(dir, "bulkhead-"+cluster.UnitID(q.tenant)+"-*.service.log")
	files := map[string]*tailed{}
	var all []logLine
	names, err := find(pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		old, err := os.ReadFile(name + ".1")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(exitUnreachable, "run it with sudo, or as root", "cannot read logs: %w", err)
		}
		files[name] = &tailed{path: name}
		now, err := files[name].read()
		if err != nil {
			return fail(exitUnreachable, "run it with sudo, or as root", "cannot read logs: %w", err)
		}
		all = append(all, pick(append(splitLines(old), now...), q)...)
	}
	slices.SortStableFunc(all, func(a, b logLine) int { return a.Time.Compare(b.Time) })
	if q.tail > 0 && len(all) > q.tail {
		all = all[len(all)-q.tail:]
	}
	for _, l := range all {
		say(l)
	}
	if !q.follow {
		return nil
	}
	return followFiles(ctx, pattern, files, q, say)
}

// followFiles says new lines until ctx ends.
func followFiles(ctx context.Context, pattern string, files map[string]*tailed, q logQuery, say func(logLine)) error {
	for tick := time.Tick(lookEvery); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
		names, err := find(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if files[name] == nil {
				files[name] = &tailed{path: name}
			}
			lines, err := files[name].read()
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for _, l := range pick(lines, q) {
				say(l)
			}
		}
	}
}

func find(pattern string) ([]string, error) {
	names, err := filepath.Glob(pattern)
	// A tenant's name may be the beginning of another's: a_b-0, a_b_c-0.
	return slices.DeleteFunc(names, func(n string) bool {
		return strings.ContainsAny(strings.TrimPrefix(filepath.Base(n), strings.TrimSuffix(filepath.Base(pattern), "*.service.log")), "-_")
	}), err
}

// tailed is a file that grows, and is emptied when it has grown too large.
type tailed struct {
	path string
	at   int64
	rest []byte // of a line that is not whole yet
}

// read returns the lines that have come since it was last called.
func (t *tailed) read() ([][]byte, error) {
	f, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < t.at {
		t.at, t.rest = 0, nil
	}
	data, err := io.ReadAll(io.NewSectionReader(f, t.at, info.Size()-t.at))
	if err != nil {
		return nil, err
	}
	t.at += int64(len(data))
	data = append(t.rest, data...)
	end := bytes.LastIndexByte(data, '\n') + 1
	t.rest = bytes.Clone(data[end:])
	return splitLines(data[:end]), nil
}

func splitLines(data []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

// pick returns the lines that are asked for. Others in a runner's file are its
// own words.
func pick(lines [][]byte, q logQuery) (out []logLine) {
	for _, line := range lines {
		var l logLine
		if json.Unmarshal(line, &l) == nil && q.wants(l) {
			out = append(out, l)
		}
	}
	return out
}
