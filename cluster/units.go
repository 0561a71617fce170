package cluster

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size, in JSON a number with a unit: "128MiB" (KiB, MiB, GiB, or
// KB, MB, GB, or B).
type Bytes int64

// Duration is a length of time, in JSON as Go writes it: "1s", "250ms", "2m".
type Duration time.Duration

// Sizes in bytes.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// byteUnits, longest suffix first, so that "MiB" isn't read as "B". Binary
// ones come first too: String takes the first that divides.
var byteUnits = []struct {
	suffix string
	size   Bytes
}{
	{"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

var (
	errBytes    = errors.New("want a size with a unit like 128MiB")
	errDuration = errors.New("want a length of time with a unit like 250ms, 1s or 2m")
)

// ParseBytes reads a whole number with a unit: "128MiB". It refuses bare
// numbers, fractions, signs, spaces and sizes past 2⁶³−1.
func ParseBytes(s string) (Bytes, error) {
	for _, u := range byteUnits {
		num, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(num, 10, 63)
		if err != nil || Bytes(n) > math.MaxInt64/u.size {
			return 0, errBytes
		}
		return Bytes(n) * u.size, nil
	}
	return 0, errBytes
}

// ParseDuration reads a length of time as Go writes it ("1m30s"), never a
// negative one.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || s == "0" {
		return 0, errDuration
	}
	return Duration(d), nil
}

// String writes the size in the largest binary unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits[:3] {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// String writes the time as Go does, without the zero parts that
// [time.Duration] appends ("1m", not "1m0s").
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes what ParseBytes reads.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// MarshalText writes what ParseDuration reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalJSON reads a JSON string with a unit; a bare number is an error.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	s, ok := unquote(data)
	if !ok {
		return errBytes
	}
	v, err := ParseBytes(s)
	if err != nil {
		return fmt.Errorf("%q: %w", clip(s), err)
	}
	*b = v
	return nil
}

// UnmarshalJSON reads a JSON string with a unit; a bare number is an error.
func (d *Duration) UnmarshalJSON(data []byte) error {
	s, ok := unquote(data)
	if !ok {
		return errDuration
	}
	v, err := ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q: %w", clip(s), err)
	}
	*d = v
	return nil
}

// UnmarshalText is what YAML and flag parsers use.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBytes(string(text))
	return err
}

// UnmarshalText is what YAML and flag parsers use.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// unquote takes the quotes off a JSON string that needs no unescaping; no
// size or time does.
func unquote(data []byte) (string, bool) {
	if len(data) < 2 || data[0] != '"' || data[len(data)-1] != '"' {
		return "", false
	}
	return string(data[1 : len(data)-1]), true
}

// clip shortens a text for an error.
func clip(s string) string {
	const most = 24
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
