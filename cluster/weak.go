package cluster

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"slices"
)

// smallPoints are the encodings, without their sign, of the points of
// Curve25519 whose order is 1, 2, 4 or 8, canonical or not (RFC 8032, section
// 5.1.7 lets a verifier take them). A signature under one says nothing.
var smallPoints = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func smallOrder(key ed25519.PublicKey) bool {
	point := bytes.Clone(key)
	point[len(point)-1] &^= 0x80
	return slices.Contains(smallPoints, hex.EncodeToString(point))
}
