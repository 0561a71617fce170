// Package ectx makes and reads the claim of that name: secrets for a function
// that travel in a token, which its bearer can't read. The claim is a JWE (RFC
// 7516) in its compact form, "alg": "dir", "enc": "A256GCM", of a JSON object of
// texts. Its key is made of the HS256 secret that signs the token, so that
// whoever issues tokens for a tenant can make one, and the tenant's runner can
// open it: HKDF-SHA256 (RFC 5869) without salt, with the info "bulkhead ectx",
// 32 bytes.
package ectx

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Claim is the claim's name.
const Claim = "ectx"

func key(secret string) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(secret), nil, "bulkhead ectx", 32)
}

// Seal makes the claim of secrets, for tokens that secret signs.
func Seal(secret string, secrets map[string]string) (string, error) {
	k, err := key(secret)
	if err != nil {
		return "", fmt.Errorf("cannot seal secrets into a token: %w", err)
	}
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: k}, nil)
	if err != nil {
		return "", fmt.Errorf("cannot seal secrets into a token: %w", err)
	}
	data, err := json.Marshal(secrets)
	if err != nil {
		return "", fmt.Errorf("cannot seal secrets into a token: %w", err)
	}
	object, err := e.Encrypt(data)
	if err != nil {
		return "", fmt.Errorf("cannot seal secrets into a token: %w", err)
	}
	return object.CompactSerialize()
}

// Open reads the claim of a token that was verified with secret: a JSON object
// of texts. Its errors quote nothing of it.
func Open(secret, claim string) ([]byte, error) {
	object, err := jose.ParseEncryptedCompact(claim, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, errors.New(`is no JWE in compact form with "alg": "dir" and "enc": "A256GCM"`)
	}
	k, err := key(secret)
	if err != nil {
		return nil, err
	}
	data, err := object.Decrypt(k)
	if err != nil {
		return nil, errors.New("does not open with the key that the token is signed with")
	}
	var texts map[string]string
	if err := json.Unmarshal(data, &texts); err != nil || texts == nil {
		return nil, errors.New("holds something else than an object of texts")
	}
	return data, nil
}
