package cluster

import (
	"strings"
	"testing"
)

func TestEgressTeachesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"*", ""}, {"example.com", ""}, {"*.example.com", ""}, {"_srv.example.com", ""}, {"10.0.0.0/8", ""}, {"203.0.113.7", ""}, {"2a00::/16", ""}, {"localhost", ""},
		{"10.0.0.1/8", "want 10.0.0.0/8"},
		{"Example.com", `want "example.com"`},
		{"example.com.", "want it without"},
		{"*.*.example.com", "want one like"}, {"foo*.example.com", "want one like"}, {"", "want one like"}, {"https://example.com", "want one like"}, {"example.com:443", "want one like"},
		{"10.0.0", "want one like"}, {"10.0.0.0/33", "want one like"}, {"256.1.1.1", "want one like"},
		{"::ffff:10.0.0.1", "want it as IPv4, like 10.0.0.1"},
		{"fe80::1%eth0", "without %"},
		{"127.0.0.1", "in 127.0.0.0/8, which no tenant's code reaches"}, {"169.254.169.254", "which no tenant's code reaches"}, {"::1", "which no tenant's code reaches"},
		{"fe80::/10", "which no tenant's code reaches"}, {"224.0.0.0/8", "which no tenant's code reaches"}, {"fd00:ec2::254", "which no tenant's code reaches"},
	} {
		_, problems := DecodeSpec("acme", []byte(spec(`"egress":{"allow":["`+c.rule+`"]}`)))
		err := Invalid(problems)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.rule, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), "egress.allow[0]") || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v; want %q", c.rule, err, c.want)
		}
	}
}

func TestEgressSaysOnlyWhatItSays(t *testing.T) {
	for _, c := range []struct {
		json        string
		allow, deny int
	}{
		{`{}`, 1, 0}, {`{"deny":["127.0.0.1"]}`, 1, 1}, {`{"allow":[]}`, 0, 0}, {`{"allow":["example.com","10.0.0.0/8"]}`, 2, 0},
	} {
		s, problems := DecodeSpec("acme", []byte(spec(`"egress":`+c.json)))
		if err := Invalid(problems); err != nil || len(s.Egress.Allow) != c.allow || len(s.Egress.Deny) != c.deny {
			t.Errorf("%s: %+v (%v)", c.json, s.Egress, err)
		}
	}
}
