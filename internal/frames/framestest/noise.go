package framestest

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"

	"bulkhead/internal/frames"
)

// Noise makes bytes that are frames, almost: of the test vectors, some changed,
// some cut, on low stream numbers so that many meet an open stream.
type Noise struct {
	rand *rand.Rand
	good [][]byte
}

// NewNoise reads the vectors, which lie in a directory of the tree. The same
// seed makes the same noise.
func NewNoise(t testing.TB, testdata string, seed uint64) *Noise {
	t.Helper()
	data, err := os.ReadFile(testdata + "/vectors.json")
	var v struct{ Frames []struct{ Hex string } }
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	n := &Noise{rand: rand.New(rand.NewPCG(seed, seed))}
	for _, f := range v.Frames {
		raw, wrong := hex.DecodeString(f.Hex)
		if wrong != nil {
			t.Fatal(wrong)
		}
		if len(raw) < 4096 {
			n.good = append(n.good, raw)
		}
	}
	if err != nil || len(n.good) == 0 {
		t.Fatalf("there are no vectors: %v", err)
	}
	return n
}

// Frames returns a HELLO of role and noise behind it. One in four is sound in
// each of its frames, so that what is wrong is their order.
func (n *Noise) Frames(role string) []byte {
	out := frames.AppendHello(nil, role)
	sound := n.rand.IntN(4) == 0
	for range 1 + n.rand.IntN(8) {
		f := append([]byte{}, n.good[n.rand.IntN(len(n.good))]...)
		if binary.LittleEndian.Uint32(f[8:]) != 0 {
			binary.LittleEndian.PutUint32(f[8:], uint32(1+n.rand.IntN(4)))
		}
		for range n.rand.IntN(4) {
			if !sound {
				f[n.rand.IntN(len(f))] = byte(n.rand.Uint32())
			}
		}
		if !sound && n.rand.IntN(16) == 0 {
			f = f[:n.rand.IntN(len(f))]
		}
		out = append(out, f...)
	}
	return out
}
