package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// Characters that a name may have at its ends, and in between. Names are
// checked on the path of every request, where a regular expression would cost
// a microsecond.
const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	digits  = "0123456789"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// shape is what a kind of name looks like.
type shape struct {
	first, last, inner charset
	most               int // characters
}

type charset [256]bool

func chars(s string) (set charset) {
	for _, c := range []byte(s) {
		set[c] = true
	}
	return set
}

var (
	tenantShape   = shape{chars(lower), chars(lower + digits), chars(lower + digits + "-"), 26}
	functionShape = shape{chars(letters + digits), chars(letters + digits), chars(letters + digits + "_.-"), 64}
	hostShape     = shape{chars(lower + digits), chars(lower + digits), chars(lower + digits + ".-"), 63}
)

func (s *shape) matches(name string) bool {
	n := len(name)
	if n == 0 || n > s.most || !s.first[name[0]] || !s.last[name[n-1]] {
		return false
	}
	for i := range n {
		if !s.inner[name[i]] {
			return false
		}
	}
	return true
}

// CheckTenant returns an error unless name is a tenant's name: a DNS label of
// at most 26 characters that starts with a letter (RFC 1035, section 2.3.1),
// short enough that its runner's user name fits 31.
func CheckTenant(name string) error {
	if !tenantShape.matches(name) {
		return fmt.Errorf("tenant name %q: want 1 to 26 of a-z, 0-9 and -, starting with a letter and not ending in -", name)
	}
	return nil
}

// CheckFunction returns an error unless name is a function's name: 1 to 64
// letters, digits, dots, dashes and underscores, starting and ending with a
// letter or digit.
func CheckFunction(name string) error {
	if !functionShape.matches(name) {
		return fmt.Errorf("function name %q: want 1 to 64 letters, digits, _ . and -, starting and ending with a letter or digit", name)
	}
	return nil
}

// CheckHost returns an error unless name is a host's name: at most 63 of
// lower-case letters, digits, dots and dashes.
func CheckHost(name string) error {
	if !hostShape.matches(name) {
		return fmt.Errorf("host name %q: want 1 to 63 of a-z, 0-9, . and -, starting and ending with a letter or digit", name)
	}
	return nil
}

// InstanceName names the n-th instance of a tenant, counted from 0: "acme.0".
func InstanceName(tenant string, n int) string { return tenant + "." + strconv.Itoa(n) }

// ParseInstance splits an instance's name into its tenant and number.
func ParseInstance(name string) (tenant string, n int, err error) {
	tenant, num, ok := strings.Cut(name, ".")
	if n, err = strconv.Atoi(num); !ok || err != nil || n < 0 || strconv.Itoa(n) != num {
		return "", 0, fmt.Errorf("instance name %q: want <tenant>.<number>", name)
	}
	return tenant, n, CheckTenant(tenant)
}

// UnitID is a tenant's name as it appears in unit and user names, where a dash
// means nesting (systemd.slice(5)): dashes become underscores, which no
// tenant's name contains, so two tenants never share one.
func UnitID(tenant string) string { return strings.ReplaceAll(tenant, "-", "_") }

// RunnerUser is the dynamic user of a tenant's runners, at most 29 characters
// (systemd allows 31).
func RunnerUser(tenant string) string { return "bh_" + UnitID(tenant) }

// Unit names of an instance. The slices nest: bulkhead.slice holds
// bulkhead-acme.slice holds bulkhead-acme-0.slice, whose limits the runner and
// the container share.
func TenantSlice(tenant string) string { return "bulkhead-" + UnitID(tenant) + ".slice" }

// InstanceSlice is the slice of one instance.
func InstanceSlice(tenant string, n int) string {
	return fmt.Sprintf("bulkhead-%s-%d.slice", UnitID(tenant), n)
}

// RunnerSocket is the socket unit of an instance's runner.
func RunnerSocket(tenant string, n int) string {
	return fmt.Sprintf("bulkhead-%s-%d.socket", UnitID(tenant), n)
}

// RunnerService is the service unit of an instance's runner.
func RunnerService(tenant string, n int) string {
	return fmt.Sprintf("bulkhead-%s-%d.service", UnitID(tenant), n)
}

// PeerName is the name in the certificate that a host's proxy shows to other
// hosts' proxies: "h1.hosts.bulkhead". It is in no DNS.
func PeerName(host string) string { return host + ".hosts.bulkhead" }
