package proxy

import "encoding/binary"

// Why a WebSocket is closed, when its two ends don't (RFC 6455, section 7.4.1).
const (
	wsGoingAway = 1001 // the platform is leaving: connect again
	wsFailed    = 1011 // whoever served it has ended without being asked to
)

// wsFrames follows the frames of one way of a WebSocket (RFC 6455, section
// 5.2), to know where one more may be put in.
type wsFrames struct {
	head   [14]byte // of the frame that begins, as far as it has come
	have   int
	left   uint64 // bytes of the frame's payload that have not come yet
	closed bool   // a Close frame has been sent: nothing may follow
}

// pass takes in what is sent.
func (w *wsFrames) pass(sent []byte) {
	for len(sent) > 0 {
		if w.left > 0 {
			n := min(w.left, uint64(len(sent)))
			sent, w.left = sent[n:], w.left-n
			continue
		}
		w.head[w.have] = sent[0]
		sent, w.have = sent[1:], w.have+1
		if w.have >= 2 && w.have == w.headSize() {
			w.begin()
		}
	}
}

// headSize is how long the head is whose first two bytes are there.
func (w *wsFrames) headSize() int {
	size := 2
	switch w.head[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if w.head[1]&0x80 != 0 {
		size += 4 // the mask
	}
	return size
}

func (w *wsFrames) begin() {
	switch n := w.head[1] & 0x7f; n {
	case 126:
		w.left = uint64(binary.BigEndian.Uint16(w.head[2:]))
	case 127:
		w.left = binary.BigEndian.Uint64(w.head[2:])
	default:
		w.left = uint64(n)
	}
	w.closed = w.closed || w.head[0]&0x0f == 8
	w.have = 0
}

// close returns the Close frame that may be sent now; nil: none may.
func (w *wsFrames) close(code uint16) []byte {
	if w.closed || w.left > 0 || w.have > 0 {
		return nil
	}
	w.closed = true
	return binary.BigEndian.AppendUint16([]byte{0x88, 2}, code)
}
