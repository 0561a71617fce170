package host

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/cluster"
)

// variant makes, on the host, an image that differs from another by its ID and
// by what a change says.
func (o *ordered) variant(of, change string) string {
	o.t.Helper()
	return strings.TrimSpace(o.Exec("sh", "-c", fmt.Sprintf("c=$(docker create %s) && docker commit --change '%s' $c && docker rm $c >/dev/null", of, change)))
}

// Another image goes from host to host, its blank cells come first, it is still
// there after a reboot, and the one before comes back.
func TestHostRunsTheImageThatItIsTold(t *testing.T) {
	hosts := tell(t, Cluster(t, 2))
	h1, h2 := hosts[0], hosts[1]
	first := h1.present()
	patched := h1.variant(first.Image, "LABEL patched=yes")
	h1.do(cluster.Order{Image: patched})
	if now := h1.present(); now.Image != patched || !now.Since.Equal(first.Since) {
		t.Errorf("host h1 runs %s since %v, want %s since %v", now.Image, now.Since, patched, first.Since)
	}
	if r := h2.report(h2.order(cluster.Order{Image: patched}), cluster.OrderFailed); !strings.Contains(r.Error, "image-"+patched[7:]+".tar") {
		t.Errorf("an image that nobody has: %q", r.Error)
	}
	h2.do(cluster.Order{Image: patched, From: map[string]string{"h1": first.Address}})
	if now := h2.present(); now.Image != patched {
		t.Errorf("host h2 runs %s, want %s", now.Image, patched)
	}
	h2.withdraw()
	h2.Reboot()
	if now := h2.present(); now.Image != patched {
		t.Errorf("after a reboot host h2 runs %s, want %s", now.Image, patched)
	}

	broken := h2.variant(patched, `ENTRYPOINT ["/nothing"]`)
	if r := h2.report(h2.order(cluster.Order{Image: broken}), cluster.OrderFailed); !strings.Contains(r.Error, "/nothing") {
		t.Errorf("an image that does not start: %q", r.Error)
	}
	if now := h2.present(); now.Image != patched {
		t.Errorf("after an image that does not start host h2 runs %s, want %s", now.Image, patched)
	}
	h2.do(cluster.Order{Image: first.Image})
	if now := h2.present(); now.Image != first.Image {
		t.Errorf("host h2 runs %s again, want %s", now.Image, first.Image)
	}
}
