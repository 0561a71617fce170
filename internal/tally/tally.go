// Package tally keeps a count in a file. Several processes may add to it at the
// same time, it outlives them, and one that trusts none of them may read it.
package tally

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"bulkhead/internal/kept"
)

// Most is the largest count: what JSON's readers take for a whole number
// everywhere (RFC 8259, section 6).
const Most = 1<<53 - 1

// Add adds n to the count in the file at path, which is 0 if there is no such
// file. It waits for others that add, who must have the same right to the
// file's directory: its lock is theirs. A file that holds no count is begun
// anew from n: whoever reads it sees that it has become less.
func Add(path string, n int64) error {
	lock, err := os.Open(filepath.Dir(path))
	if err == nil {
		defer lock.Close() // and the lock with it
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		before, _ := Read(path)
		err = kept.Write(path, strconv.AppendInt(nil, min(before+n, Most), 10), 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot add to count %s: %w", path, err)
	}
	return nil
}

// Read returns the count in the file at path, from 0 to [Most]. The error wraps
// [fs.ErrNotExist] when there is none yet. Whoever owns the file can neither
// have another file read by a link, nor keep the reader waiting.
func Read(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot read count: %w", err)
	}
	defer f.Close()
	n, err := read(f)
	if err != nil {
		return 0, fmt.Errorf("cannot read count %s: %w", path, err)
	}
	return n, nil
}

var errNoCount = fmt.Errorf("want a regular file with a whole number from 0 to %d and nothing else", int64(Most))

func read(f *os.File) (int64, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, errNoCount
	}
	const digits = 16 // of Most; one byte more tells that it is too long
	data, err := io.ReadAll(io.LimitReader(f, digits+1))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(data), 10, 64) // no sign, no space
	if err != nil || n > Most || len(data) > digits {
		return 0, errNoCount
	}
	return int64(n), nil
}
