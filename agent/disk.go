package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bulkhead/internal/etcd"
	"bulkhead/internal/kept"
)

// disk keeps etcd keys in a directory, one file a key, so that a change costs
// one small write and one bad file spoils one key. A file holds the revision,
// a line break and the value, as etcd has it: secrets stay sealed, which are in
// plain text there are in plain text here, and code always is. All is root's.
type disk string

func (d disk) path(key string) string { return filepath.Join(string(d), url.PathEscape(key)) }

// keep writes an event's value, or removes it.
func (d disk) keep(e etcd.Event) error {
	if e.Deleted {
		if err := os.Remove(d.path(e.Key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot forget %s: %w", e.Key, err)
		}
		return nil
	}
	text := append(strconv.AppendInt(nil, e.Revision, 10), '\n')
	if err := kept.Write(d.path(e.Key), append(text, e.Value...), 0o600); err != nil {
		return fmt.Errorf("cannot keep %s: %w", e.Key, err)
	}
	return nil
}

// load returns what is kept, making the directory if it isn't there. Files
// that are damaged are left out, and said.
func (d disk) load(log *slog.Logger) ([]etcd.Event, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a place for what is desired: %w", err)
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("cannot read what was desired: %w", err)
	}
	var events []etcd.Event
	for _, f := range entries {
		if strings.HasPrefix(f.Name(), kept.HalfWritten) {
			os.Remove(filepath.Join(string(d), f.Name()))
			continue
		}
		e, err := d.read(f.Name())
		if err != nil {
			log.Warn("left out of what was desired", "file", f.Name(), "error", err)
			continue
		}
		events = append(events, e)
	}
	return events, nil
}

func (d disk) read(name string) (etcd.Event, error) {
	key, err := url.PathUnescape(name)
	if err != nil {
		return etcd.Event{}, err
	}
	data, err := os.ReadFile(filepath.Join(string(d), name))
	if err != nil {
		return etcd.Event{}, err
	}
	head, value, ok := bytes.Cut(data, []byte("\n"))
	revision, err := strconv.ParseInt(string(head), 10, 64)
	if !ok || err != nil {
		return etcd.Event{}, errors.New("no revision in its first line")
	}
	return etcd.Event{Key: key, Value: value, Revision: revision}, nil
}
