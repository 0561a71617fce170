package modules

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"bulkhead/cluster"
)

// change is something that a builder has to write: a build's record, or the set
// of a function.
type change struct {
	build  string // want whose record to write
	record cluster.Build
	after  int64 // revision that the record's key must still have; 0: there is none

	function string // key of the function whose set to write
	set      string
	want     map[string]string // of the function itself
}

// plan says what is to be written as things are, and pick what is to be built.
//
//   - What is wanted and was never built is queued, and what failed is queued again
//     when the list has changed or somebody deploys.
//   - What is available and not allowed any more has failed: no function gets it
//     from now on. Those that have it keep it.
//   - A function whose set is not what was built of its want gets that.
func (m *model) plan(now time.Time) (changes []change) {
	wanted, asked := map[string]map[string]string{}, map[string]int64{} // by want's ID; revision at which one without a set was written last
	for _, key := range slices.Sorted(maps.Keys(m.functions)) {
		want := m.wants(key)
		f := m.functions[key]
		if len(want) == 0 {
			if f.valid && f.set != "" { // it wants nothing any more, nor does its tenant
				changes = append(changes, change{function: key, want: f.want})
			}
			continue
		}
		id := cluster.WantID(want)
		wanted[id] = want
		if f.set == "" {
			asked[id] = max(asked[id], f.revision)
		}
		if b := m.builds[id]; b.State == cluster.BuildAvailable && b.Set != f.set && m.sets[b.Set].Packages != nil && m.refused(b) == nil {
			changes = append(changes, change{function: key, set: b.Set, want: f.want})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		if c, ok := m.next(id, wanted[id], max(asked[id], m.changed), now); ok {
			changes = append(changes, c)
		}
	}
	return changes
}

// next is what becomes of a want's build by itself. What failed is tried again when
// something has changed since that it may have failed for.
func (m *model) next(id string, want map[string]string, changed int64, now time.Time) (change, bool) {
	b, there := m.builds[id]
	c := change{build: id, record: b, after: m.rebuilt[id]}
	switch {
	case !there:
		c.record, c.after = cluster.Build{Want: want}, 0
		c.record.State = cluster.BuildQueued
	case b.State == cluster.BuildFailed && b.Seen < changed:
		c.record.State, c.record.Error, c.record.Log = cluster.BuildQueued, "", ""
	case b.State == cluster.BuildAvailable && m.refused(b) != nil:
		c.record.State, c.record.Error = cluster.BuildFailed, m.refused(b).Error()
	case b.State == cluster.BuildAvailable && m.sets[b.Set].Packages == nil:
		c.record.State, c.record.Set = cluster.BuildQueued, "" // nobody knows what is in it
	default:
		return c, false
	}
	c.record.Since, c.record.Seen = now, m.seen
	return c, true
}

// refused says why what was built may not be had any more.
func (m *model) refused(b cluster.Build) error {
	return m.list.Check(b.Want, m.sets[b.Set].Packages)
}

// pick is what is to be built next: what has waited longest. What is said to be
// building is so by a builder that is gone, since only one builds at a time and
// this one does not.
func (m *model) pick() (id string, ok bool) {
	for _, one := range slices.Sorted(maps.Keys(m.builds)) {
		b := m.builds[one]
		if b.State != cluster.BuildQueued && b.State != cluster.BuildRunning {
			continue
		}
		if !ok || b.Since.Before(m.builds[id].Since) {
			id, ok = one, true
		}
	}
	return id, ok
}

func (c change) String() string {
	if c.function != "" {
		return fmt.Sprintf("%s gets set %.12s", c.function, c.set)
	}
	return fmt.Sprintf("build %s is %s", c.build, c.record.State)
}
