package runner

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// members reads a JSON object's members by their exact names. A name that is
// there twice is refused (RFC 7515, section 4; RFC 7519, section 4): whoever
// else reads the token may take the other one. encoding/json would take the
// last, and EXP for exp.
func members(object []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	open, err := d.Token()
	if err != nil || open != json.Delim('{') {
		return nil, errors.New("want a JSON object")
	}
	all := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		key, _ := name.(string) // or More's next Decode fails
		if _, twice := all[key]; twice {
			return nil, fmt.Errorf("%.64q is there twice", key)
		}
		all[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something stands behind the JSON object")
	}
	return all, nil
}

// take decodes the members that into names, where they are.
func take(all map[string]json.RawMessage, into map[string]any) error {
	for name, v := range into {
		raw, has := all[name]
		if !has {
			continue
		}
		if err := json.Unmarshal(raw, v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// moment is a NumericDate (RFC 7519, section 2): a number, never text.
type moment struct{ at *jwt.NumericDate }

// maxSeconds bounds a moment, either way: later years overflow where time is
// counted in nanoseconds or by other languages' dates.
const maxSeconds = 1 << 40

// UnmarshalJSON reads seconds since 1970, with or without a fraction.
func (m *moment) UnmarshalJSON(b []byte) error {
	var seconds *float64
	switch err := json.Unmarshal(b, &seconds); {
	case err != nil:
		return errors.New("want a number of seconds since 1970")
	case seconds == nil:
		return nil
	case math.Abs(*seconds) > maxSeconds:
		return fmt.Errorf("want a number of seconds since 1970, at most 2^40, not %g", *seconds)
	}
	whole, fraction := math.Modf(*seconds)
	m.at = &jwt.NumericDate{Time: time.Unix(int64(whole), int64(fraction*1e9))}
	return nil
}

// checkHeader refuses a header that two readers may read differently.
func checkHeader(t *jwt.Token) *Refusal {
	header, _, _ := strings.Cut(t.Raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err == nil {
		_, err = members(text)
	}
	if err != nil {
		return refuse(401, causeBadToken, "the token's header cannot be read: %v", err)
	}
	return nil
}
