package etcdmem_test

import (
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdmem"
)

func TestTimeIsTheBubbles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := etcdmem.New()
		_, cli := s.Connect(t.Context(), etcdmem.Faults{Delay: func() time.Duration { return time.Millisecond }})
		defer cli.Close()
		p := etcd.NewPresence(cli, 10*time.Second, "/a/here")
		p.Set("/a/here", []byte("yes"))
		batches := etcd.Watch(t.Context(), cli, "/a/")
		<-batches
		time.Sleep(time.Hour) // of the bubble's time: the lease is kept all along
		s.Look(func(s *etcdmem.Snapshot) {
			if s.Get("/a/here") == nil {
				t.Error("the lease ran out although it was kept")
			}
		})
		if _, err := cli.Delete(t.Context(), "/a/here"); err != nil {
			t.Fatal(err)
		}
		for b := range batches {
			if b.Events[0].Deleted {
				break
			}
		}
		if b := <-batches; b.Events[0].Deleted {
			t.Errorf("a key of ours that someone deletes is written again, not %+v", b)
		}
		p.Close()
	})
}
