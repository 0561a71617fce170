package facts

import (
	"strings"
	"testing"
)

func TestThisMachineHasFacts(t *testing.T) {
	c, err := Capacity()
	if err != nil || c.Memory <= 0 || c.CPU < 1 || c.Pids < 1 {
		t.Errorf("capacity %+v, %v", c, err)
	}
	boot, err := Boot()
	if id, start, ok := strings.Cut(boot[max(0, len(boot)-20):], "-"); err != nil || !ok || id == "" || start == "" {
		t.Errorf("boot %q, %v", boot, err)
	}
	if Kernel() == "unknown" {
		t.Error("the kernel has no name")
	}
}

func TestPrettyName(t *testing.T) {
	for text, want := range map[string]string{
		"ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n": "Debian GNU/Linux 12",
		"PRETTY_NAME=Flatcar":                              "Flatcar",
		"ID=x":                                             "unknown",
	} {
		if got := prettyName(strings.NewReader(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
