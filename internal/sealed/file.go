package sealed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/tink-crypto/tink-go/v2/keyset"

	"bulkhead/internal/kept"
)

// File is where a ring is kept.
type File struct {
	Path string
	// KMS is the unix socket of the plug-in that wraps the ring; empty: it is in
	// plain text, and who reads the file has it.
	KMS string
}

// Read reads the ring. Its error wraps [os.ErrNotExist] when there is none. A
// file that others than its owner may read is refused, unless it is wrapped.
func (f File) Read() (*Ring, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys that open secrets: %w", err)
	}
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys that open secrets: %w", err)
	}
	var r *Ring
	switch mode := info.Mode().Perm(); {
	case isWrapped(data):
		r, err = f.unwrap(data)
	case mode&0o077 != 0:
		err = fmt.Errorf("its mode is %o, so others can read them; want 600 (chmod 600 %s)", mode, f.Path)
	default:
		r, err = decode(data)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the keys in %s: %w", f.Path, err)
	}
	return r, nil
}

func isWrapped(data []byte) bool {
	var w struct {
		EncryptedKeyset string `json:"encryptedKeyset"`
	}
	return json.Unmarshal(data, &w) == nil && w.EncryptedKeyset != ""
}

func (f File) unwrap(data []byte) (*Ring, error) {
	if f.KMS == "" {
		return nil, fmt.Errorf("they are wrapped by a key management service: name its plug-in's socket (--kms)")
	}
	handle, err := keyset.Read(keyset.NewJSONReader(bytes.NewReader(data)), plugin{f.KMS}.envelope())
	if err != nil {
		return nil, err
	}
	return ring(handle)
}

// Write replaces the file in one step, with mode 0600.
func (f File) Write(r *Ring) error {
	data, err := f.encode(r)
	if err == nil {
		err = kept.Write(f.Path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the keys that open secrets: %w", err)
	}
	return nil
}

func (f File) encode(r *Ring) ([]byte, error) {
	if f.KMS == "" {
		return r.encode()
	}
	var b bytes.Buffer
	err := r.handle.Write(keyset.NewJSONWriter(&b), plugin{f.KMS}.envelope())
	return b.Bytes(), err
}
