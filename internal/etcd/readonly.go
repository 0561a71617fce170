package etcd

import (
	"context"
	"net"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Socket is a unix socket on which an embedded etcd serves readers: whoever
// comes over it may read and watch the keys below Prefixes, and do nothing
// else.
type Socket struct {
	Path     string
	Prefixes []string
}

// readers holds clients to what their socket allows.
type readers []Socket

// of returns the socket that a request came over; nil for a network address.
func (r readers) of(ctx context.Context) *Socket {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	addr, ok := p.LocalAddr.(*net.UnixAddr)
	if !ok {
		return nil
	}
	for i := range r {
		if r[i].Path == addr.Name {
			return &r[i]
		}
	}
	return &Socket{Path: addr.Name} // none of ours: it may read nothing
}

// allows returns an error unless all keys from key to end lie below one of the
// prefixes.
func (s *Socket) allows(key, end []byte) error {
	if slices.ContainsFunc(s.Prefixes, func(prefix string) bool { return within(prefix, string(key), string(end)) }) {
		return nil
	}
	return status.Errorf(codes.PermissionDenied, "over this socket only keys below %s may be read", strings.Join(s.Prefixes, " and "))
}

// within reports whether all keys from key to end lie below a prefix. An empty
// end names one key, "\x00" all that follow (etcd's Range); any other is the
// first key that is not meant.
func within(prefix, key, end string) bool {
	below := strings.HasPrefix(key, prefix) && prefix != ""
	return below && (end == "" || strings.HasPrefix(end, prefix) || end == after(prefix))
}

// after is the first key that does not begin with prefix, whose last byte is
// not the highest.
func after(prefix string) string {
	last := len(prefix) - 1
	return prefix[:last] + string([]byte{prefix[last] + 1})
}

func (r readers) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if s := r.of(ctx); s != nil {
		get, ok := req.(*pb.RangeRequest)
		if !ok {
			return nil, status.Errorf(codes.PermissionDenied, "over this socket keys are only read")
		}
		if err := s.allows(get.Key, get.RangeEnd); err != nil {
			return nil, err
		}
	}
	return handle(ctx, req)
}

func (r readers) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	s := r.of(stream.Context())
	if s == nil {
		return handle(srv, stream)
	}
	if info.FullMethod != "/etcdserverpb.Watch/Watch" {
		return status.Errorf(codes.PermissionDenied, "over this socket keys are only read")
	}
	return handle(srv, watchOnly{stream, s})
}

// watchOnly looks at what a watch stream asks for.
type watchOnly struct {
	grpc.ServerStream
	socket *Socket
}

// RecvMsg implements [grpc.ServerStream].
func (w watchOnly) RecvMsg(m any) error {
	if err := w.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if req, ok := m.(*pb.WatchRequest); ok {
		if create := req.GetCreateRequest(); create != nil {
			return w.socket.allows(create.Key, create.RangeEnd)
		}
	}
	return nil
}
