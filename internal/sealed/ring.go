package sealed

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/tink-crypto/tink-go/v2/hybrid"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Ring opens what was sealed with any of its keys. One of them is the first:
// it is the one that [Ring.Lock] seals with. A Ring never changes.
type Ring struct {
	handle  *keyset.Handle
	decrypt tink.HybridDecrypt
}

// NewRing makes a ring with one key.
func NewRing() (*Ring, error) {
	handle, err := keyset.NewHandle(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	if err != nil {
		return nil, fmt.Errorf("cannot make a key to open secrets with: %w", err)
	}
	return ring(handle)
}

func ring(handle *keyset.Handle) (*Ring, error) {
	decrypt, err := hybrid.NewHybridDecrypt(handle)
	if err != nil {
		return nil, fmt.Errorf("cannot open secrets with these keys: %w", err)
	}
	return &Ring{handle, decrypt}, nil
}

// First is the ID of the key that the ring's lock seals with.
func (r *Ring) First() string { return idText(r.handle.KeysetInfo().GetPrimaryKeyId()) }

// Added are the IDs of all keys, in the order in which they were added.
func (r *Ring) Added() (ids []string) {
	for _, k := range r.handle.KeysetInfo().GetKeyInfo() {
		ids = append(ids, idText(k.GetKeyId()))
	}
	return ids
}

// IDs are those of all keys, sorted.
func (r *Ring) IDs() []string { return slices.Sorted(slices.Values(r.Added())) }

var errNotSealed = errors.New("is no sealed text: want one that bulkhead made")

// Open returns the secret that was sealed for a place. The error quotes
// nothing of it.
func (r *Ring) Open(at Place, text string) ([]byte, error) {
	id := KeyID(text)
	if id == "" {
		return nil, errNotSealed
	}
	if !slices.Contains(r.IDs(), id) {
		return nil, fmt.Errorf("is sealed for key %s; the keys here are %v", id, r.IDs())
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, errNotSealed
	}
	secret, err := r.decrypt.Decrypt(data, []byte(at))
	if err != nil {
		return nil, errors.New("does not open: it was sealed for another tenant, key or function, or was changed since")
	}
	return secret, nil
}

// Lock is the public half of the first key, as [ParseLock] reads it. Others
// are left out: nothing is sealed with them.
func (r *Ring) Lock() ([]byte, error) {
	only := keyset.NewManagerFromHandle(r.handle)
	for _, id := range r.IDs() {
		if id != r.First() {
			if err := only.Delete(number(id)); err != nil {
				return nil, fmt.Errorf("cannot make a lock: %w", err)
			}
		}
	}
	handle, err := only.Handle()
	if err != nil {
		return nil, fmt.Errorf("cannot make a lock: %w", err)
	}
	if handle, err = handle.Public(); err != nil {
		return nil, fmt.Errorf("cannot make a lock: %w", err)
	}
	var b bytes.Buffer
	if err := handle.WriteWithNoSecrets(keyset.NewJSONWriter(&b)); err != nil {
		return nil, fmt.Errorf("cannot make a lock: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// Add returns a ring with one more key, which is not the first, and its ID.
func (r *Ring) Add() (*Ring, string, error) {
	m := keyset.NewManagerFromHandle(r.handle)
	id, err := m.Add(hybrid.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_AES_256_GCM_Key_Template())
	if err != nil {
		return nil, "", fmt.Errorf("cannot add a key: %w", err)
	}
	next, err := managed(m)
	return next, idText(id), err
}

// Use returns a ring whose first key is another.
func (r *Ring) Use(id string) (*Ring, error) {
	m := keyset.NewManagerFromHandle(r.handle)
	if err := m.SetPrimary(number(id)); err != nil {
		return nil, fmt.Errorf("cannot use key %s: %w", id, err)
	}
	return managed(m)
}

// Drop returns a ring without a key. The first can't be dropped.
func (r *Ring) Drop(id string) (*Ring, error) {
	m := keyset.NewManagerFromHandle(r.handle)
	if err := m.Delete(number(id)); err != nil {
		return nil, fmt.Errorf("cannot drop key %s: %w", id, err)
	}
	return managed(m)
}

func managed(m *keyset.Manager) (*Ring, error) {
	handle, err := m.Handle()
	if err != nil {
		return nil, fmt.Errorf("cannot change keys: %w", err)
	}
	return ring(handle)
}

// number is the key that an ID names; 0, which none has, if it names none.
func number(id string) uint32 {
	n, _ := strconv.ParseUint(id, 16, 32)
	return uint32(n)
}

// encode is the ring in plain text, to be kept where only its owner can read.
func (r *Ring) encode() ([]byte, error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(r.handle, keyset.NewJSONWriter(&b)); err != nil {
		return nil, fmt.Errorf("cannot encode keys: %w", err)
	}
	return b.Bytes(), nil
}

func decode(data []byte) (*Ring, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		return nil, errors.New("the file holds no ring of keys, or is cut off: restore it from a backup") // Tink's own error may quote
	}
	return ring(handle)
}
