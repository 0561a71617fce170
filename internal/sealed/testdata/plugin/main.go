// The plugin is a KMS plug-in as Kubernetes' API servers use them, made with
// their own library: it wraps with a key that it keeps in a file.
//
//	plugin SOCKET KEYFILE
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/kms/pkg/service"
)

type keeper struct{ cipher.AEAD }

const keyID = "the only key"

func (k keeper) Encrypt(_ context.Context, _ string, data []byte) (*service.EncryptResponse, error) {
	nonce := make([]byte, k.NonceSize())
	rand.Read(nonce)
	return &service.EncryptResponse{Ciphertext: k.Seal(nil, nonce, data, nil), KeyID: keyID, Annotations: map[string][]byte{"nonce.example.org": nonce}}, nil
}

func (k keeper) Decrypt(_ context.Context, _ string, r *service.DecryptRequest) ([]byte, error) {
	nonce := r.Annotations["nonce.example.org"]
	if r.KeyID != keyID || len(nonce) != k.NonceSize() {
		return nil, errors.New("this was wrapped by another")
	}
	return k.Open(nil, nonce, r.Ciphertext, nil)
}

func (k keeper) Status(context.Context) (*service.StatusResponse, error) {
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: keyID}, nil
}

func main() {
	key, err := os.ReadFile(os.Args[2])
	if err == nil {
		err = serve(os.Args[1], key)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func serve(socket string, key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	return service.NewGRPCService(socket, 10*time.Second, keeper{gcm}).ListenAndServe()
}
