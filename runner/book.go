package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"bulkhead/internal/waking"
)

// maxBook is how much of what was counted is read, in bytes.
const maxBook = 4 << 20

// book is a file of the agent's in which a runner keeps what has been used of
// quotas, so that they outlive it: an instance that sleeps has no runner.
type book struct{ file *os.File }

// entries are what is kept: by the name of a count; the tenant's has none.
type entries map[string]used

// openBook reads what was used until the last runner ended. Without the agent
// it begins anew.
func (r *Runner) openBook() {
	if r.cell.waker.socket == "" {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, time.Second)
	defer cancel()
	b, kept, err := r.cell.waker.book(ctx)
	if err != nil {
		r.opts.Log.Warn("what has been used of quotas is not known, and not kept", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.book = b
	r.counts.restore(kept, time.Now())
}

// book asks the agent for the file, and reads it. A file that cannot be read is
// written anew.
func (w *waker) book(ctx context.Context) (*book, entries, error) {
	w.ask.Lock()
	defer w.ask.Unlock()
	a, err := w.exchange(ctx, waking.Book)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot ask the agent for what was used: %w", err)
	}
	if a.Error != "" || len(a.files) != 1 {
		waking.Close(a.files)
		return nil, nil, fmt.Errorf("cannot get what was used: the agent sent %d files (%s)", len(a.files), a.Error)
	}
	b := &book{a.files[0]}
	kept, err := b.read()
	return b, kept, err
}

// read is what was written last; nothing, if nothing was.
func (b *book) read() (kept entries, err error) {
	err = json.NewDecoder(io.NewSectionReader(b.file, 0, maxBook)).Decode(&kept)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read what was used: %w", err)
	}
	return kept, nil
}

// write replaces what is kept. What is behind the JSON does not matter, should
// we end in between.
func (b *book) write(e entries) error {
	data, err := json.Marshal(e)
	if err == nil {
		_, err = b.file.WriteAt(append(data, '\n'), 0)
	}
	if err == nil {
		err = b.file.Truncate(int64(len(data)) + 1)
	}
	if err != nil {
		return fmt.Errorf("cannot keep what was used: %w", err)
	}
	return nil
}

// keepBook writes down what has been used.
func (r *Runner) keepBook() {
	r.booking.Lock() // an older count never comes after a newer one
	defer r.booking.Unlock()
	r.mu.Lock()
	b, e := r.book, r.counts.entries(time.Now())
	r.mu.Unlock()
	if b == nil {
		return
	}
	if err := b.write(e); err != nil {
		r.opts.Log.Warn("quotas begin anew with the next runner", "error", err)
	}
}

// closeBook writes it down for the last time.
func (r *Runner) closeBook() {
	r.keepBook()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.book != nil {
		r.book.file.Close()
		r.book = nil
	}
}

// entries is what has been used in windows that go on, beyond a second.
func (n *counts) entries(now time.Time) entries {
	e := entries{}
	add := func(key string, u used) {
		if u.in(perMonth, now) > 0 || u.in(perWeek, now) > 0 {
			e[key] = u
		}
	}
	add("", n.tenant.used)
	for key, one := range n.own {
		add(key, one.used)
	}
	return e
}

// restore takes up what was used before.
func (n *counts) restore(e entries, now time.Time) {
	for key, u := range e {
		if key == "" {
			n.tenant.used = u
			continue
		}
		n.get(key, 0, now).used = u
	}
}
