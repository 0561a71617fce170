package cluster

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"testing"
)

// Each of the points must be one for which anybody can sign: the neutral point
// and 0 are a signature for one text in eight, at least.
func TestPointsOfSmallOrderCanBeSignedForByAnybody(t *testing.T) {
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1
	for _, text := range smallPoints {
		key, err := hex.DecodeString(text)
		if err != nil || !smallOrder(key) {
			t.Fatalf("%s: %v", text, err)
		}
		taken := false
		for i := 0; i < 1000 && !taken; i++ {
			taken = ed25519.Verify(key, fmt.Append(nil, i), forged)
		}
		if !taken {
			t.Errorf("%s is no point of small order", text)
		}
	}
}
