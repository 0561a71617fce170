package cluster

import (
	"strings"
	"testing"
)

const goodFleet = `{"name": "p", "artifacts": "http://10.0.0.9:80", "hosts": [
	{"name": "h1", "address": "10.0.0.1", "roles": ["control", "host"], "labels": {"zone": "a"}, "caps": {"memory": "8GiB", "cpu": 4, "pids": 1000}},
	{"name": "h2", "address": "fd00::2", "roles": ["host"]}]%s}`

func fleetText(more string) string {
	return strings.Replace(goodFleet, "%s", more, 1)
}

func TestDecodeFleet(t *testing.T) {
	f, problems := DecodeFleet([]byte(fleetText(`, "domain": "example.org"`)))
	if err := Invalid(problems); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.Endpoints(), ","); got != "https://10.0.0.1:2379" {
		t.Errorf("endpoints %s", got)
	}
	h, _ := f.Host("h2")
	if got := f.PeerAddress(h); got != "[fd00::2]:8443" {
		t.Errorf("address %s", got)
	}
	if in := f.Inventory(f.Hosts[0]); in.Memory != 8*GiB || in.CPU != 4 || in.Pids != 1000 || in.Labels["zone"] != "a" || in.Address != "10.0.0.1:8443" {
		t.Errorf("inventory %+v", in)
	}
	if f.Variant != "fcos" || f.Artifacts != "http://10.0.0.9:80/" || len(f.Members()) != 1 || len(f.Workers()) != 2 {
		t.Errorf("decoded %+v", f)
	}
}

func TestDecodeFleetSaysAllThatIsWrong(t *testing.T) {
	for _, c := range []struct{ sentence, text, want string }{
		{"an unknown key", fleetText(`, "domian": "x"`), `domian: unknown key; did you mean "domain"?`},
		{"an unknown key of a host", strings.Replace(fleetText(""), `"labels"`, `"lables"`, 1), `hosts[0].lables: unknown key; did you mean "labels"?`},
		{"an unknown role", strings.Replace(fleetText(""), `"control"`, `"contrl"`, 1), `did you mean "control"?`},
		{"an unknown variant", fleetText(`, "variant": "rhcos"`), "variant: "},
		{"a name twice", strings.Replace(fleetText(""), `"h2"`, `"h1"`, 1), "hosts[1].name: "},
		{"an address twice", strings.Replace(fleetText(""), "fd00::2", "10.0.0.1", 1), "hosts[1].address: "},
		{"a name in the place of an address", strings.Replace(fleetText(""), "fd00::2", "h2.example.org", 1), "hosts[1].address: "},
		{"an even number of members", strings.Replace(fleetText(""), `"roles": ["host"]`, `"roles": ["host", "control"]`, 1), "want an odd number"},
		{"no member at all", strings.Replace(fleetText(""), `["control", "host"]`, `["host"]`, 1), "0 of them have the role control"},
		{"a role twice", strings.Replace(fleetText(""), `["control", "host"]`, `["host", "host"]`, 1), "hosts[0].roles: "},
		{"no roles", strings.Replace(fleetText(""), `, "roles": ["host"]`, ``, 1), "hosts[1].roles: is missing"},
		{"https without a certificate", fleetText(`, "listen": {"https": ["0.0.0.0:443"]}`), "listen.https: needs a certificate"},
		{"an address without a port", fleetText(`, "listen": {"http": ["0.0.0.0"]}`), "listen.http[0]: "},
		{"two ways to a certificate", fleetText(`, "tls": {"cert": "a", "key": "b"}, "acme": {"directory": "https://a/", "email": "a@b"}`), "acme: is there beside tls"},
		{"a certificate without its key", fleetText(`, "tls": {"cert": "a"}`), "tls: lacks a file"},
		{"an SSH key of two lines", fleetText(`, "ssh": ["ssh-ed25519 AAAA\nroot"]`), "ssh[0]: "},
		{"a group that Zincati refuses", fleetText(`, "update": {"group": "a b"}`), "update.group: "},
		{"a URL that would end a line", fleetText(`, "update": {"lock": "http://a/\n"}`), "update.lock: "},
		{"nothing", "{}", "name: is missing"},
	} {
		_, problems := DecodeFleet([]byte(c.text))
		if err := Invalid(problems); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.sentence, err, c.want)
		}
	}
	_, problems := DecodeFleet([]byte(`{"name": "P", "variant": 1, "hosts": [{"name": "-"}], "pool": 99}`))
	if len(problems) != 6 {
		t.Errorf("%d problems said of six: %v", len(problems), Invalid(problems))
	}
}

func TestUsersAreNeverShared(t *testing.T) {
	// A host named so that its user would be another's.
	if AgentUser("h1") == ProxyUser("h1") || AgentUser("h1") == SchedulerUser || AgentUser("h1") == RootUser {
		t.Error("two roles share a user")
	}
	for _, a := range AgentAccess("h1") {
		if a.Prefix && !strings.HasSuffix(a.Key, "/h1/") {
			t.Errorf("the prefix %s is that of h10 too", a.Key)
		}
		if !a.Prefix && !strings.HasSuffix(a.Key, "/h1") {
			t.Errorf("%s is no key of h1", a.Key)
		}
	}
}
