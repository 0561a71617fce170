package egress

import (
	"fmt"
	"strings"

	"bulkhead/cluster"
)

// hostRules are the host's own about the link to the router: nothing comes in
// by it, nothing goes through to where no code may go, and nobody else gets
// into the router.
func hostRules(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %[1]s\ndelete table inet %[1]s\ntable inet %[1]s {\n", name)
	set(&b, "never", cluster.Unreachable)
	fmt.Fprintf(&b, `	chain input {
		type filter hook input priority filter; policy accept;
		iifname %[1]q icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
		iifname %[1]q drop
	}
	chain output {
		type filter hook output priority filter; policy accept;
		oifname %[1]q icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		oifname %[1]q meta l4proto != { icmp, icmpv6 } drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname %[1]q ip daddr @never4 drop
		iifname %[1]q ip6 daddr @never6 drop
		iifname %[1]q ip saddr %[2]s accept
		iifname %[1]q ip6 saddr %[3]s accept
		iifname %[1]q drop
		oifname %[1]q ct state established,related accept
		oifname %[1]q drop
	}
	chain out {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[2]s oifname != %[1]q masquerade
		ip6 saddr %[3]s oifname != %[1]q masquerade
	}
}
`, name, router4, router6)
	return b.String()
}
