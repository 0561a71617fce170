package agent

import (
	"strconv"
	"strings"

	"bulkhead/cluster"
)

// owner returns the instance that a unit belongs to, and "" for a unit of no
// instance (the proxy's, bulkhead.slice). A tenant's slice, which its
// instances share, counts as its first instance's.
func owner(unit string) string {
	base, kind, _ := cutLast(unit, ".")
	id, ok := strings.CutPrefix(base, "bulkhead-")
	if !ok || kind != "slice" && kind != "socket" && kind != "service" {
		return ""
	}
	unitID, number, numbered := cutLast(id, "-")
	if !numbered {
		if kind != "slice" {
			return ""
		}
		number = "0"
	}
	tenant := strings.ReplaceAll(unitID, "_", "-")
	n, err := strconv.Atoi(number)
	if err != nil || strconv.Itoa(n) != number || cluster.CheckTenant(tenant) != nil || cluster.UnitID(tenant) != unitID {
		return ""
	}
	return cluster.InstanceName(tenant, n)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
