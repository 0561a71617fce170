package sealed

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Lock seals, and can't open.
type Lock struct {
	id      string
	encrypt tink.HybridEncrypt
}

// ParseLock reads what [Ring.Lock] returns.
func ParseLock(data []byte) (*Lock, error) {
	handle, err := keyset.ReadWithNoSecrets(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		return nil, fmt.Errorf("cannot read the key that secrets are sealed with: %w", err)
	}
	encrypt, err := hybrid.NewHybridEncrypt(handle)
	if err != nil {
		return nil, fmt.Errorf("cannot seal with this key: %w", err)
	}
	return &Lock{idText(handle.KeysetInfo().GetPrimaryKeyId()), encrypt}, nil
}

// ID names the key that opens what this lock seals.
func (l *Lock) ID() string { return l.id }

// Seal makes a text of a secret that opens only at its place.
func (l *Lock) Seal(at Place, secret []byte) (string, error) {
	data, err := l.encrypt.Encrypt(secret, []byte(at))
	if err != nil {
		return "", fmt.Errorf("cannot seal: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(data), nil
}
