// Package kept writes files that outlive the process which writes them.
package kept

import (
	"errors"
	"os"
	"path/filepath"
)

// HalfWritten starts the names of files that a killed writer may leave.
const HalfWritten = ".new-"

// Write replaces a file in one step: readers, and whoever comes after a crash
// of this process, see the old content or the new.
func Write(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), HalfWritten)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
