package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxHosts is the most that one cluster holds; more go into another beside it.
const maxHosts = 10_000

// maxFleet is the most a fleet's JSON may measure.
const maxFleet = 16 * MiB

var (
	groupPattern  = regexp.MustCompile(`^[a-zA-Z0-9.-]{1,64}$`)
	sshPattern    = regexp.MustCompile(`^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n\r]*)?$`)
	socketPattern = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	domainPattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// DecodeFleet reads cluster.yaml, as JSON, as strictly as [DecodeSpec] does a
// spec, and returns all that is wrong with it.
func DecodeFleet(data []byte) (Fleet, []Problem) {
	f := DefaultFleet()
	r := &reader{}
	root, problem := parseTree(data, maxFleet)
	if problem != nil {
		return f, []Problem{*problem}
	}
	r.object("", root,
		field{"name", r.matching(&f.Name, func(s string) bool { return tenantShape.matches(s) }, `a DNS label of at most 26 characters, like "production"`)},
		field{"variant", r.oneOf(&f.Variant, "fcos", "flatcar")},
		field{"domain", r.matching(&f.Domain, domainPattern.MatchString, `a domain, like "example.org"`)},
		field{"hosts", r.list(maxHosts, func(path string, n node) {
			var h FleetHost
			r.fleetHost(path, n, &h)
			f.Hosts = append(f.Hosts, h)
		})},
		field{"artifacts", r.url(&f.Artifacts)},
		field{"kms", r.matching(&f.KMS, socketPattern.MatchString, `the path of a unix socket on the hosts, like "/run/kms/plugin.sock"`)},
		field{"listen", func(path string, n node) { r.fleetListen(path, n, &f.Listen) }},
		field{"tls", func(path string, n node) { f.TLS = &FleetTLS{}; r.fleetTLS(path, n, f.TLS) }},
		field{"acme", func(path string, n node) { f.ACME = &FleetACME{}; r.fleetACME(path, n, f.ACME) }},
		field{"update", func(path string, n node) { r.fleetUpdate(path, n, &f.Update) }},
		field{"ssh", r.list(1000, func(path string, n node) {
			var key string
			r.matching(&key, sshPattern.MatchString, `a public key in one line, like "ssh-ed25519 AAAA… me"`)(path, n)
			f.SSH = append(f.SSH, key)
		})},
		field{"operators", r.list(1000, func(path string, n node) {
			var name string
			r.matching(&name, func(s string) bool { return hostShape.matches(s) }, `a name, like "alice"`)(path, n)
			if slices.Contains(f.Operators, name) {
				r.wrong(path, show(name)+"is there twice", "want each once")
			}
			f.Operators = append(f.Operators, name)
		})},
		field{"pool", r.integer(&f.Pool, 0, 16)},
		field{"promise", r.number(&f.Promise, 1, 1000)},
	)
	if root.kind == "object" && len(r.problems) == 0 {
		r.fleet(f)
	}
	return f, r.problems
}

// fleet checks what only the whole can show.
func (r *reader) fleet(f Fleet) {
	for _, missing := range []struct {
		is    bool
		path  string
		right string
	}{
		{f.Name == "", "name", `want the cluster's name, like "production"`},
		{len(f.Hosts) == 0, "hosts", `want at least one, like {"name": "h1", "address": "10.0.0.1", "roles": ["control", "host"]}`},
		{f.Artifacts == "", "artifacts", `want the URL of the directory that hosts fetch binaries and image from`},
	} {
		if missing.is {
			r.wrong(missing.path, "is missing", missing.right)
		}
	}
	seen := map[string]string{}
	for i, h := range f.Hosts {
		for what, value := range map[string]string{"name": h.Name, "address": h.Address} {
			at := fmt.Sprintf("hosts[%d].%s", i, what)
			if other, twice := seen[what+value]; twice {
				r.wrong(at, show(value)+"is that of "+other+" too", "want each once")
			}
			seen[what+value] = fmt.Sprintf("hosts[%d]", i)
		}
	}
	if n := len(f.Members()); len(f.Hosts) > 0 && n%2 == 0 {
		r.wrong("hosts", fmt.Sprintf("%d of them have the role control", n), "want an odd number, 3 or 5, so that etcd survives the loss of one or two")
	}
	if len(f.Listen.HTTPS) > 0 && f.TLS == nil && f.ACME == nil {
		r.wrong("listen.https", "needs a certificate", `want "tls": {"cert": …, "key": …} or "acme" as well`)
	}
	if f.TLS != nil && f.ACME != nil {
		r.wrong("acme", "is there beside tls", "want one of them")
	}
}

func (r *reader) fleetHost(path string, n node, h *FleetHost) {
	r.object(path, n,
		field{"name", r.matching(&h.Name, func(s string) bool { return hostShape.matches(s) }, `a host's name, like "h1"`)},
		field{"address", r.matching(&h.Address, isAddress, `an IP address, like "10.0.0.1"`)},
		field{"roles", r.list(3, func(path string, n node) {
			var role string
			r.oneOf(&role, RoleControl, RoleHost, RoleBuilder)(path, n)
			h.Roles = append(h.Roles, role)
		})},
		field{"labels", r.texts(&h.Labels, r.label)},
		field{"caps", func(path string, n node) {
			r.object(path, n,
				field{"memory", r.size(&h.Caps.Memory, 64*MiB, 64*1024*GiB)},
				field{"cpu", r.number(&h.Caps.CPU, 0.1, 1e6)},
				field{"pids", r.integer(&h.Caps.Pids, 32, 1<<22)},
			)
		}},
	)
	if n.kind != "object" {
		return
	}
	for _, name := range []string{"name", "address", "roles"} {
		if !hasMember(n, name) {
			r.wrong(join(path, name), "is missing", `want a host like {"name": "h1", "address": "10.0.0.1", "roles": ["control", "host"]}`)
		}
	}
	if once := slices.Compact(slices.Sorted(slices.Values(h.Roles))); hasMember(n, "roles") && (len(once) == 0 || len(once) < len(h.Roles)) {
		r.wrong(join(path, "roles"), "names no role, or one twice", "want control, host or both")
	}
	if h.Is(RoleBuilder) && !h.Is(RoleHost) {
		r.wrong(join(path, "roles"), "has builder without host", "want host as well: its agent hands out what is built")
	}
}

func (r *reader) fleetListen(path string, n node, l *FleetListen) {
	r.object(path, n,
		field{"http", r.addresses(&l.HTTP)},
		field{"https", r.addresses(&l.HTTPS)},
		field{"peers", r.integer(&l.Peers, 1, 65535)},
		field{"etcd", r.integer(&l.Etcd, 1, 65535)},
		field{"etcd_peers", r.integer(&l.EtcdPeers, 1, 65535)},
		field{"etcd_http", r.integer(&l.EtcdHTTP, 1, 65535)},
	)
}

func (r *reader) fleetTLS(path string, n node, t *FleetTLS) {
	r.object(path, n, field{"cert", r.text(&t.Cert)}, field{"key", r.text(&t.Key)})
	if n.kind == "object" && (t.Cert == "" || t.Key == "") {
		r.wrong(path, "lacks a file", `want both "cert" and "key"`)
	}
}

func (r *reader) fleetACME(path string, n node, a *FleetACME) {
	r.object(path, n,
		field{"directory", r.url(&a.Directory)},
		field{"email", r.matching(&a.Email, func(s string) bool { return strings.Contains(s, "@") && !strings.ContainsAny(s, " \t\n\"'\\%$;") }, "a mail address")},
	)
}

func (r *reader) fleetUpdate(path string, n node, u *FleetUpdate) {
	r.object(path, n,
		field{"group", r.matching(&u.Group, groupPattern.MatchString, "letters, digits, dots and dashes")},
		field{"lock", r.url(&u.Lock)},
	)
}

// matching reads a text that must look right; example is what would be.
func (r *reader) matching(out *string, good func(string) bool, example string) func(string, node) {
	return r.then(out, example, func(s string) (string, bool) { return s, good(s) })
}

func (r *reader) oneOf(out *string, known ...string) func(string, node) {
	return func(path string, n node) {
		if !r.is(path, n, "text", "one of "+list(known)) {
			return
		}
		for _, k := range known {
			if n.text == k {
				*out = k
				return
			}
		}
		right := "want one of " + list(known)
		if near := nearest(n.text, known); near != "" {
			right = fmt.Sprintf("did you mean %q?", near)
		}
		r.wrong(path, show(n.text)+"is not known", right)
	}
}

// url reads the URL of a directory and has it end in a slash.
func (r *reader) url(out *string) func(string, node) {
	return r.then(out, `an http or https URL, like "http://10.0.0.254:8000/"`, func(s string) (string, bool) {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(s, " \t\n\"'\\%$;") {
			return "", false
		}
		return strings.TrimSuffix(s, "/") + "/", true
	})
}

func (r *reader) then(out *string, example string, read func(string) (string, bool)) func(string, node) {
	return func(path string, n node) {
		if !r.is(path, n, "text", example) {
			return
		}
		v, ok := read(n.text)
		if !ok {
			r.wrong(path, show(n.text)+"is none", "want "+example)
			return
		}
		*out = v
	}
}

func (r *reader) addresses(out *[]string) func(string, node) {
	return func(path string, n node) {
		*out = nil
		r.list(16, func(path string, n node) {
			var address string
			r.matching(&address, isHostPort, `an address with a port, like "0.0.0.0:80" or "[::]:80"`)(path, n)
			*out = append(*out, address)
		})(path, n)
	}
}

func isAddress(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == "" && !a.IsUnspecified()
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	p, portErr := strconv.ParseUint(port, 10, 16)
	return err == nil && portErr == nil && p > 0 && a.Zone() == ""
}
