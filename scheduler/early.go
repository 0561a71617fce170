package scheduler

import (
	"runtime"
	"strings"
	"sync"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// decodeAll decodes the specs of a list on all cores: they are most of what a
// new leader has to read.
func decodeAll(events []etcd.Event) map[string]*specRecord {
	records := make([]*specRecord, len(events))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(events); i += workers {
				if name, ok := strings.CutPrefix(events[i].Key, cluster.TenantsPrefix); ok && name != "" {
					records[i] = (*specRecord)(nil).again(name, events[i])
				}
			}
		})
	}
	wg.Wait()
	byName := map[string]*specRecord{}
	for i, r := range records {
		if r != nil {
			byName[strings.TrimPrefix(events[i].Key, cluster.TenantsPrefix)] = r
		}
	}
	return byName
}
