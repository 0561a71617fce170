package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/internal/kept"
	"bulkhead/units"
)

// States implements [agent.Services]: units that systemd has loaded, and
// those whose files are there although it hasn't.
func (s *Systemd) States(ctx context.Context, prefix string) ([]units.State, error) {
	conn, err := s.connection(ctx)
	if err != nil {
		return nil, err
	}
	loaded, err := conn.ListUnitsByPatternsContext(ctx, nil, []string{prefix + "*"})
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	texts, err := texts(prefix)
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	var all []units.State
	for _, u := range loaded {
		text := texts[u.Name]
		delete(texts, u.Name)
		if text == "" && u.ActiveState == "inactive" {
			continue // a mere mention of it by another unit
		}
		all = append(all, units.State{Name: u.Name, Active: u.ActiveState, Sub: u.SubState, Text: text})
	}
	for name, text := range texts {
		all = append(all, units.State{Name: name, Active: "inactive", Sub: "dead", Text: text})
	}
	return all, nil
}

// texts reads our unit files.
func texts(prefix string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(Dir, prefix+"*"))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, path := range files {
		name := filepath.Base(path)
		if strings.HasPrefix(name, kept.HalfWritten) || strings.HasSuffix(name, ".d") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			all[name] = string(text)
		}
	}
	return all, nil
}
