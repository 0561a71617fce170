package sealed

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Place is where a secret belongs. What is sealed for one place opens at no
// other.
type Place string

// KeyPlace is the secret of a tenant's HS256 key.
func KeyPlace(tenant, kid string) Place {
	return Place("bulkhead tenant key\x00" + tenant + "\x00" + kid)
}

// FunctionPlace is all secrets of a function together.
func FunctionPlace(tenant, function string) Place {
	return Place("bulkhead function secrets\x00" + tenant + "\x00" + function)
}

// header is what Tink begins a ciphertext with: a version, and the key's ID in
// four bytes, big-endian.
const (
	header  = 5
	version = 1
)

// KeyID tells which key of a ring opens a sealed text, as [Ring.IDs] names it;
// "": what it is given is no such text. It looks at the beginning alone.
func KeyID(text string) string {
	const begins = (header + 2) / 3 * 4 // characters
	if len(text) < begins {
		return ""
	}
	data, err := base64.RawURLEncoding.DecodeString(text[:begins])
	if err != nil || data[0] != version {
		return ""
	}
	return idText(binary.BigEndian.Uint32(data[1:header]))
}

func idText(id uint32) string { return fmt.Sprintf("%08x", id) }
