// Package frames speaks the wire format that carries requests from the host
// proxy to a runner and on to a function process: docs/frames.md, version 1.
//
// It has three layers. The codec ([Header], [Request], [Response], [Fields],
// [Headers]) turns frames into views of the bytes they came in and back, and
// allocates nothing. A [Conn] sends frames in batches, never blocks on a peer
// that does not read, and hands each frame that arrives to a [Handler]. A
// [Client] adds streams with flow control, for a caller that waits for its
// answer: the proxy. The runner, which only passes frames on, uses Conns.
package frames
