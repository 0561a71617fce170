package modules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// builder is one that has its turn.
type builder struct {
	cli   *clientv3.Client
	o     Options
	model *model
	fence etcd.Fence
}

// report is what a build says: how far it is, or at last what came of it.
type report struct {
	want string
	log  string
	over bool
	made made
	err  error
}

// run follows what is wanted, writes what follows from it, and builds one set at a
// time.
func (b *builder) run(ctx context.Context) error {
	if err := b.o.Maker.sweep(ctx); err != nil {
		b.o.Log.Warn("cannot remove what a builder left", "error", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	batches := etcd.Follow(ctx, b.cli, followed...)
	reports, building := make(chan report), false
	defer func() {
		cancel()
		for building {
			building = !(<-reports).over
		}
		for range batches {
		}
	}()
	for {
		var err error
		select {
		case batch, ok := <-batches:
			if !ok {
				return context.Cause(ctx)
			}
			b.model.take(batch)
		case r := <-reports:
			building = !r.over
			err = b.note(ctx, r)
		}
		if err = firstOf(err, b.settle(ctx)); err != nil {
			return err
		}
		if id, ok := b.model.pick(); ok && !building {
			building = true
			want, list := b.model.builds[id].Want, b.model.list.clone()
			if err := b.begin(ctx, id); err != nil {
				building = false
				return err
			}
			go b.build(ctx, id, want, list, reports)
		}
	}
}

// settle reads what the model lacks and writes what it comes to, until there is
// nothing to write.
func (b *builder) settle(ctx context.Context) error {
	for keys := range slices.Chunk(b.model.unread(), readKeys) {
		found, err := etcd.Read(ctx, b.cli, keys...)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if e, ok := found[key]; ok {
				b.model.read(key, e.Value, e.Revision)
			} else {
				delete(b.model.functions, key) // the watch says so too
			}
		}
	}
	for _, c := range b.model.plan(now()) {
		if err := b.write(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// write writes one change, unless what it was decided by has changed: then the
// watch brings what it has become.
func (b *builder) write(ctx context.Context, c change) error {
	if c.function != "" {
		return b.writeSet(ctx, c)
	}
	if err := b.put(ctx, cluster.BuildKey(c.build), c.after, c.record); err != nil {
		return err
	}
	b.o.Log.Info("modules", "change", c.String(), "error", c.record.Error)
	return nil
}

// put writes one value if its key was last changed at a revision, and takes it
// into the model.
func (b *builder) put(ctx context.Context, key string, after int64, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", key, err)
	}
	revision, err := etcd.Commit(ctx, b.cli, &b.fence, []etcd.Op{etcd.Unchanged(key, after), etcd.Put(key, data)})
	if errors.Is(err, etcd.ErrChanged) {
		return b.fence.Renew(ctx, b.cli) // the key has changed, or our turn is over: this tells which
	}
	if err != nil {
		return err
	}
	b.model.see(etcd.Event{Key: key, Value: data, Revision: revision}, false)
	return nil
}

// writeSet fills in a function's set, and leaves all else as it was written.
func (b *builder) writeSet(ctx context.Context, c change) error {
	found, err := etcd.Read(ctx, b.cli, c.function)
	if err != nil {
		return err
	}
	e := found[c.function]
	if e.Revision != b.model.functions[c.function].revision {
		return nil
	}
	var record map[string]json.RawMessage
	if err := json.Unmarshal(e.Value, &record); err != nil {
		return fmt.Errorf("cannot read %s: %w", c.function, err)
	}
	delete(record, "modules")
	if c.set != "" || len(c.want) > 0 {
		want := c.want
		if want == nil {
			want = map[string]string{} // all is its tenant's
		}
		if record["modules"], err = json.Marshal(cluster.FunctionModules{Want: want, Set: c.set}); err != nil {
			return fmt.Errorf("cannot write %s: %w", c.function, err)
		}
	}
	if err := b.put(ctx, c.function, e.Revision, record); err != nil {
		return err
	}
	b.o.Log.Info("modules", "change", c.String())
	return nil
}

// begin says that a build has begun.
func (b *builder) begin(ctx context.Context, id string) error {
	record := b.model.builds[id]
	record.State, record.By, record.Error, record.Log, record.Since, record.Seen = cluster.BuildRunning, b.o.Name, "", "", now(), b.model.seen
	return b.put(ctx, cluster.BuildKey(id), b.model.rebuilt[id], record)
}

// build makes one set and reports every step.
func (b *builder) build(ctx context.Context, id string, want map[string]string, l List, reports chan<- report) {
	var log tail
	m, err := b.o.Maker.make(ctx, l, want, &log, func(step string) {
		fmt.Fprintf(&log, "bulkhead: %s\n", step)
		reports <- report{want: id, log: log.String()}
	})
	reports <- report{want: id, log: log.String(), over: true, made: m, err: err}
}

// note writes what a build says. If somebody has asked for the build anew
// meanwhile, what comes of this one is nobody's.
func (b *builder) note(ctx context.Context, r report) error {
	record, there := b.model.builds[r.want]
	if ctx.Err() != nil || !there || record.State != cluster.BuildRunning {
		return context.Cause(ctx)
	}
	record.Log = r.log
	switch {
	case r.err != nil:
		record.State, record.Error, record.Since = cluster.BuildFailed, r.err.Error(), now()
		b.o.Log.Warn("cannot build modules", "build", r.want, "error", r.err)
	case r.over:
		record.State, record.Set, record.Since = cluster.BuildAvailable, r.made.name, now()
		if b.model.sets[r.made.name].Packages == nil { // else another want came to the same
			if err := b.put(ctx, cluster.SetKey(r.made.name), 0, r.made.set); err != nil {
				return err
			}
		}
		b.o.Log.Info("modules are available", "build", r.want, "set", r.made.name, "packages", len(r.made.set.Packages), "size", r.made.set.Size)
	}
	return b.put(ctx, cluster.BuildKey(r.want), b.model.rebuilt[r.want], record)
}

// now is the time as records have it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
