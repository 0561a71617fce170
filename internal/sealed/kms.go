package sealed

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kms "k8s.io/kms/apis/v2"
)

// kmsPatience is how long a plug-in may take to answer.
const kmsPatience = 10 * time.Second

// plugin is a key management service behind a local program, which speaks what
// Kubernetes' API servers speak with theirs: KMS v2, gRPC over a unix socket.
// There are such programs for most services. As it is told a 32-byte key, never
// a secret, it is asked once for each reading or writing of a ring.
type plugin struct{ socket string }

// wrapped is what a plug-in makes of a key, and needs to give it back.
type wrapped struct {
	Ciphertext  []byte            `json:"ciphertext"`
	KeyID       string            `json:"key_id"`
	Annotations map[string][]byte `json:"annotations,omitempty"`
}

// envelope seals a ring with a key of its own, which the plug-in wraps.
func (p plugin) envelope() tink.AEAD {
	return aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), p)
}

// Encrypt has the plug-in wrap a key; there is no associated data in its
// protocol, and Tink gives none.
func (p plugin) Encrypt(key, _ []byte) ([]byte, error) {
	var answer *kms.EncryptResponse
	err := p.ask(func(ctx context.Context, c kms.KeyManagementServiceClient) (err error) {
		answer, err = c.Encrypt(ctx, &kms.EncryptRequest{Plaintext: key, Uid: rand.Text()})
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot have a key wrapped: %w", err)
	case len(answer.GetCiphertext()) == 0 || answer.GetKeyId() == "":
		return nil, errors.New("cannot have a key wrapped: the plug-in's answer is empty")
	}
	return json.Marshal(wrapped{answer.GetCiphertext(), answer.GetKeyId(), answer.GetAnnotations()})
}

// Decrypt has the plug-in give back what it wrapped.
func (p plugin) Decrypt(data, _ []byte) ([]byte, error) {
	var w wrapped
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, errors.New("cannot have a key unwrapped: it was not wrapped by a KMS plug-in")
	}
	var answer *kms.DecryptResponse
	err := p.ask(func(ctx context.Context, c kms.KeyManagementServiceClient) (err error) {
		answer, err = c.Decrypt(ctx, &kms.DecryptRequest{Ciphertext: w.Ciphertext, KeyId: w.KeyID, Annotations: w.Annotations, Uid: rand.Text()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot have a key unwrapped: %w", err)
	}
	return answer.GetPlaintext(), nil
}

func (p plugin) ask(do func(context.Context, kms.KeyManagementServiceClient) error) error {
	conn, err := grpc.NewClient("unix://"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials())) // it never leaves this machine
	if err != nil {
		return fmt.Errorf("cannot reach the KMS plug-in at %s: %w", p.socket, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), kmsPatience)
	defer cancel()
	if err := do(ctx, kms.NewKeyManagementServiceClient(conn)); err != nil {
		return fmt.Errorf("the KMS plug-in at %s: %w", p.socket, err)
	}
	return nil
}
