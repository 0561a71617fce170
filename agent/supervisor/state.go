package supervisor

import (
	"bulkhead/internal/kept"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// note is what the supervisor keeps on disk about a unit that was started, so
// that the next supervisor knows.
type note struct {
	Process *process `json:"process,omitempty"` // of a service that runs
}

// store keeps unit files and notes.
type store struct{ units, notes string }

func openStore(dir string) (store, error) {
	s := store{filepath.Join(dir, "units"), filepath.Join(dir, "started")}
	if err := errors.Join(os.MkdirAll(s.units, 0o700), os.MkdirAll(s.notes, 0o700)); err != nil {
		return s, fmt.Errorf("cannot make a place for units: %w", err)
	}
	return s, nil
}

// texts returns the unit files by name.
func (s store) texts() (map[string]string, error) {
	files, err := os.ReadDir(s.units)
	if err != nil {
		return nil, fmt.Errorf("cannot read units: %w", err)
	}
	texts := map[string]string{}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), kept.HalfWritten) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(s.units, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("cannot read units: %w", err)
		}
		texts[f.Name()] = string(text)
	}
	return texts, nil
}

func (s store) write(name, text string) error {
	return kept.Write(filepath.Join(s.units, name), []byte(text), 0o600)
}

func (s store) remove(name string) error {
	s.unnote(name)
	if err := os.Remove(filepath.Join(s.units, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (s store) note(name string, n note) error {
	data, err := json.Marshal(n)
	if err == nil {
		err = kept.Write(filepath.Join(s.notes, name), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot note that %s runs: %w", name, err)
	}
	return nil
}

func (s store) unnote(name string) { os.Remove(filepath.Join(s.notes, name)) }

// noted returns the note about a unit, and false if it isn't started.
func (s store) noted(name string) (note, bool) {
	data, err := os.ReadFile(filepath.Join(s.notes, name))
	if err != nil {
		return note{}, false
	}
	var n note
	return n, json.Unmarshal(data, &n) == nil
}
