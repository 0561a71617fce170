package cluster

import (
	"encoding/json"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		text string
		want Bytes
		back string
	}{
		{"128MiB", 128 * MiB, "128MiB"},
		{"1GiB", GiB, "1GiB"},
		{"1024MiB", GiB, "1GiB"},
		{"1536KiB", 1536 * KiB, "1536KiB"},
		{"2KB", 2000, "2000B"},
		{"2GB", 2e9, "1953125KiB"},
		{"7B", 7, "7B"},
		{"0B", 0, "0B"},
	} {
		got, err := ParseBytes(c.text)
		if err != nil || got != c.want || got.String() != c.back {
			t.Errorf("%q: got %d (%s), %v; want %d (%s)", c.text, got, got, err, c.want, c.back)
		}
		var again Bytes
		data, _ := json.Marshal(got)
		if err := json.Unmarshal(data, &again); err != nil || again != got {
			t.Errorf("%q through JSON %s: %d, %v", c.text, data, again, err)
		}
	}
	for _, bad := range []string{"", "128", "MiB", "-1MiB", "+1MiB", "1.5GiB", "1 MiB", "1mib", "1M", "9223372036854775807KiB", "99999999999GiB", "1_000B"} {
		if got, err := ParseBytes(bad); err == nil {
			t.Errorf("%q is taken as %d", bad, got)
		}
	}
	var b Bytes
	if err := json.Unmarshal([]byte("128"), &b); err == nil || err.Error() != "want a size with a unit like 128MiB" {
		t.Errorf("a bare number: %v", err)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "250ms": 250 * time.Millisecond, "2m": 2 * time.Minute, "1m30s": 90 * time.Second,
		"1h": time.Hour, "0s": 0, "10m": 10 * time.Minute, "20h": 20 * time.Hour,
	} {
		got, err := ParseDuration(text)
		if err != nil || time.Duration(got) != want || got.String() != text {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "0", "1", "-1s", "1 s", "1d", "s"} {
		if got, err := ParseDuration(bad); err == nil {
			t.Errorf("%q is taken as %s", bad, got)
		}
	}
}
