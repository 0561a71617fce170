package sealed

import (
	"encoding/json"
	"fmt"

	"bulkhead/cluster"
)

// OpenKeys returns a tenant's keys with their secrets in place of what was
// sealed. Keys that are not sealed stay as they are; without a ring sealed ones
// are an error.
func (r *Ring) OpenKeys(tenant string, keys []cluster.Key) ([]cluster.Key, error) {
	open := make([]cluster.Key, len(keys))
	for i, k := range keys {
		if k.Sealed != "" {
			secret, err := r.open(KeyPlace(tenant, k.KID), k.Sealed)
			if err != nil {
				return nil, fmt.Errorf("cannot open the secret of key %s: it %w", k.KID, err)
			}
			if len(secret) < cluster.MinSecret {
				return nil, fmt.Errorf("cannot use the secret of key %s: it is %d bytes long; want at least %d random ones", k.KID, len(secret), cluster.MinSecret)
			}
			k.Alg, k.Secret, k.Sealed = "HS256", string(secret), ""
		}
		open[i] = k
	}
	return open, nil
}

// OpenFunction returns a function with its secrets in place of what was
// sealed, and the version that goes with them.
func (r *Ring) OpenFunction(tenant, name string, f cluster.Function) (cluster.Function, error) {
	if f.Sealed == "" {
		return f, nil
	}
	data, err := r.open(FunctionPlace(tenant, name), f.Sealed)
	if err != nil {
		return f, fmt.Errorf("cannot open the secrets of function %s: what is sealed %w", name, err)
	}
	f.Secrets = nil
	if err := json.Unmarshal(data, &f.Secrets); err != nil {
		return f, fmt.Errorf("cannot read the secrets of function %s: what was sealed is no object of texts", name)
	}
	f.Sealed = ""
	f.Version = f.Digest()
	return f, nil
}

func (r *Ring) open(at Place, text string) ([]byte, error) {
	if r != nil {
		return r.Open(at, text)
	}
	if id := KeyID(text); id != "" {
		return nil, fmt.Errorf("is sealed for key %s, and there is no key here", id)
	}
	return nil, errNotSealed
}

// Function returns a function with its secrets sealed.
func (l *Lock) Function(tenant, name string, f cluster.Function) (cluster.Function, error) {
	if len(f.Secrets) == 0 {
		return f, nil
	}
	data, err := json.Marshal(f.Secrets)
	if err != nil {
		return f, fmt.Errorf("cannot seal the secrets of function %s: %w", name, err)
	}
	if f.Sealed, err = l.Seal(FunctionPlace(tenant, name), data); err != nil {
		return f, fmt.Errorf("secrets of function %s: %w", name, err)
	}
	f.Secrets, f.Version = nil, ""
	return f, nil
}

// PlainSpec says whether a valid spec has a secret that is not sealed.
func PlainSpec(s cluster.Spec) bool {
	for _, k := range s.Keys {
		if k.Secret != "" {
			return true
		}
	}
	return false
}

// Spec returns a tenant's spec, as it is written, with its plain secrets
// sealed: nothing else of it changes but the order of members and the spaces
// between. The keys of the spec must be valid, whatever else isn't.
func (l *Lock) Spec(tenant string, data []byte) ([]byte, error) {
	return rekey(data, func(kid string, key map[string]json.RawMessage) error {
		var secret string
		if key["secret"] == nil || json.Unmarshal(key["secret"], &secret) != nil {
			return nil
		}
		text, err := l.Seal(KeyPlace(tenant, kid), []byte(secret))
		if err != nil {
			return fmt.Errorf("secret of key %s: %w", kid, err)
		}
		delete(key, "secret")
		key["sealed"], err = json.Marshal(text)
		return err
	})
}

// OpenSpec is the opposite of [Lock.Spec].
func (r *Ring) OpenSpec(tenant string, data []byte) ([]byte, error) {
	return rekey(data, func(kid string, key map[string]json.RawMessage) error {
		var text string
		if key["sealed"] == nil || json.Unmarshal(key["sealed"], &text) != nil {
			return nil
		}
		secret, err := r.open(KeyPlace(tenant, kid), text)
		if err != nil {
			return fmt.Errorf("cannot open the secret of key %s: it %w", kid, err)
		}
		delete(key, "sealed")
		key["secret"], err = json.Marshal(string(secret))
		return err
	})
}

// rekey changes each key of a spec's text.
func rekey(data []byte, change func(kid string, key map[string]json.RawMessage) error) ([]byte, error) {
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("cannot read the spec: %w", err)
	}
	var keys []map[string]json.RawMessage
	if err := json.Unmarshal(spec["keys"], &keys); err != nil {
		return nil, fmt.Errorf("cannot read the spec's keys: %w", err)
	}
	for _, key := range keys {
		var kid string
		if err := json.Unmarshal(key["kid"], &kid); err != nil {
			return nil, fmt.Errorf("cannot read the name of a key: %w", err)
		}
		if err := change(kid, key); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the spec's keys: %w", err)
	}
	spec["keys"] = text
	return json.Marshal(spec)
}
