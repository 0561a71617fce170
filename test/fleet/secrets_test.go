package fleet

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/cluster"
	"bulkhead/test/load"
)

// revoked revokes tokens of a tenant that two hosts serve, and asks each host
// at once.
func revoked(r *rig) {
	c := r.hello("pair")
	for range 10 {
		bad := load.Call{Path: c.Path, Token: r.token("pair")}
		for _, p := range r.proxies {
			for range 4 { // whichever of the two instances it is sent to
				if got := r.get(p, bad); !strings.Contains(got, c.Want) {
					r.t.Fatalf("before it is revoked %s answers %s", p, got)
				}
			}
		}
		file := filepath.Join(r.t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(bad.Token), 0o600); err != nil {
			r.t.Fatal(err)
		}
		r.Bulkhead("token", "revoke", "pair", "--token-file", file)
		for _, p := range r.proxies {
			for range 4 {
				if got := r.get(p, bad); !strings.Contains(got, "token_revoked") {
					r.t.Errorf("after it is revoked %s answers %s", p, got)
				}
			}
			if got := r.get(p, c); !strings.Contains(got, c.Want) {
				r.t.Errorf("another token gets %s from %s", got, p)
			}
		}
	}
}

// resealed gives the cluster another key for its secrets as an operator does,
// while requests come.
func resealed(r *rig) {
	var was, now struct {
		Keys []struct {
			Key    string
			Seals  bool
			Values int
		}
		Plain int
	}
	status := func(into any) {
		r.t.Helper()
		if err := json.Unmarshal([]byte(r.Bulkhead("secrets", "status", "-o", "json")), into); err != nil {
			r.t.Fatal(err)
		}
	}
	status(&was)
	if len(was.Keys) != 1 || !was.Keys[0].Seals || was.Keys[0].Values == 0 || was.Plain != 0 {
		r.t.Fatalf("secrets are not sealed from the start: %+v", was)
	}
	c := r.hello("pair")
	traffic := r.load(r.proxies, c)
	r.Bulkhead("secrets", "add")
	for _, h := range r.Hosts {
		h.CopyIn(r.File("pki/opening-keys.json"), "/etc/bulkhead/pki/opening-keys.json")
	}
	r.Bulkhead("secrets", "rotate", "--drop", "--timeout", "60s")
	for _, h := range r.Hosts {
		h.CopyIn(r.File("pki/opening-keys.json"), "/etc/bulkhead/pki/opening-keys.json")
	}
	r.await("every host has dropped the old key", func() bool {
		hosts := all[cluster.Host](r, cluster.HostsPrefix)
		for _, h := range hosts {
			if len(h.Opens) != 1 || h.Opens[0] == was.Keys[0].Key {
				return false
			}
		}
		return len(hosts) == len(r.Hosts)
	})
	r.none(traffic)
	status(&now)
	if len(now.Keys) != 1 || now.Keys[0].Key == was.Keys[0].Key || now.Keys[0].Values != was.Keys[0].Values {
		r.t.Errorf("was %+v, is %+v", was, now)
	}
	for _, p := range r.proxies {
		if got := r.get(p, load.Call{Path: c.Path, Token: r.token("pair")}); !strings.Contains(got, c.Want) {
			r.t.Errorf("%s answers %s", p, got)
		}
	}
}
