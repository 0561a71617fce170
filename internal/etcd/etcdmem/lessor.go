package etcdmem

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// firstKeepAlive is how long a lease is tried to be kept before etcd has
// answered once, keepAliveAgain the pause after it has not.
const (
	firstKeepAlive = 5 * time.Second
	keepAliveAgain = 500 * time.Millisecond
)

// lessor is a process's clientv3.Lease: the client's own, but for what keeps
// leases. The client's looks twice a second whether there is anything to do,
// which is half of all that happens in a simulation.
type lessor struct {
	clientv3.Lease
	conn *Conn
}

// KeepAlive implements [clientv3.Lease]: the channel is closed when the lease
// has run out, or may have as far as we can know.
func (l lessor) KeepAlive(ctx context.Context, id clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	out := make(chan *clientv3.LeaseKeepAliveResponse, 16)
	go func() {
		defer close(out)
		until, s := time.Now().Add(firstKeepAlive), l.conn.store
		for {
			s.mu.Lock()
			gone, wait := l.conn.cut || s.down, keepAliveAgain
			var a *clientv3.LeaseKeepAliveResponse
			if !gone {
				kept := s.keepAlive(int64(id))
				a = &clientv3.LeaseKeepAliveResponse{ResponseHeader: kept.Header, ID: id, TTL: kept.TTL}
			}
			s.mu.Unlock()
			switch {
			case gone && time.Now().After(until), !gone && a.TTL <= 0:
				return
			case !gone:
				ttl := time.Duration(a.TTL) * time.Second
				until, wait = time.Now().Add(ttl), ttl/3
				select {
				case out <- a:
				default: // nobody reads: the client drops them too
				}
			}
			if pause(ctx, wait) != nil {
				return
			}
		}
	}()
	return out, nil
}
