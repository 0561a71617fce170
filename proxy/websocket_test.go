package proxy

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// wsFrame is a frame of a WebSocket server, or with a mask of a client.
func wsFrame(opcode byte, size int, masked bool) []byte {
	b := []byte{0x80 | opcode}
	mask := byte(0)
	if masked {
		mask = 0x80
	}
	switch {
	case size < 126:
		b = append(b, mask|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(size))
	}
	if masked {
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, make([]byte, size)...)
}

func TestWebSocketIsClosedBetweenFrames(t *testing.T) {
	going := []byte{0x88, 2, 0x03, 0xe9}
	for _, size := range []int{0, 1, 125, 126, 65535, 65536} {
		for _, masked := range []bool{false, true} {
			frame := wsFrame(2, size, masked)
			for _, cut := range []int{0, 1, 2, 3, len(frame) / 2, len(frame) - 1, len(frame)} {
				w := &wsFrames{}
				w.pass(wsFrame(1, 5, false))
				w.pass(frame[:cut])
				got, whole := w.close(wsGoingAway), cut == 0 || cut == len(frame)
				if whole && !bytes.Equal(got, going) || !whole && got != nil {
					t.Errorf("frame of %d bytes (masked: %v) cut after %d: close frame %x", size, masked, cut, got)
				}
			}
		}
	}
	w := &wsFrames{}
	w.pass(wsFrame(8, 2, false))
	if got := w.close(wsGoingAway); got != nil {
		t.Errorf("a second close frame: %x", got)
	}
}
