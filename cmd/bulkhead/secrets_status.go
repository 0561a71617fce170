package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

// usage says what the values in etcd that hold secrets are sealed for.
type usage struct {
	Keys  map[string]int `json:"keys"`  // values, by the key that opens them
	Plain int            `json:"plain"` // values with a secret in plain text
}

// others are values that are not sealed for a key.
func (u usage) others(id string) int {
	n := u.Plain
	for key, count := range u.Keys {
		if key != id {
			n += count
		}
	}
	return n
}

func (u *usage) count(plain bool, texts ...string) {
	if plain {
		u.Plain++
	}
	for _, text := range texts {
		if text != "" {
			u.Keys[sealed.KeyID(text)]++
		}
	}
}

func (u *usage) keys(keys []cluster.Key) {
	plain := false
	var texts []string
	for _, k := range keys {
		plain = plain || k.Secret != ""
		texts = append(texts, k.Sealed)
	}
	u.count(plain, texts...)
}

// usage looks at every value that may hold a secret. Code is not kept: all of
// it together may be more than fits memory.
func (s store) usage(ctx context.Context) (usage, error) {
	u := usage{Keys: map[string]int{}}
	for prefix, take := range map[string]func(e etcd.Event){
		cluster.TenantsPrefix:   func(e etcd.Event) { u.spec(e.Value) },
		cluster.AppliedPrefix:   func(e etcd.Event) { u.spec(e.Value) },
		cluster.FunctionsPrefix: func(e etcd.Event) { u.function(e.Value) },
		cluster.PlacementsPrefix: func(e etcd.Event) {
			var p cluster.Placement
			_ = json.Unmarshal(e.Value, &p)
			u.keys(p.Keys)
		},
		cluster.CopiesPrefix: func(e etcd.Event) {
			var c cluster.Copy
			if json.Unmarshal(e.Value, &c) == nil {
				u.function(c.Function)
			}
		},
	} {
		if err := s.each(ctx, prefix, func(e etcd.Event) error { take(e); return nil }); err != nil {
			return u, err
		}
	}
	return u, nil
}

// spec counts one, valid or not.
func (u *usage) spec(data []byte) {
	var s struct{ Keys []cluster.Key }
	_ = json.Unmarshal(data, &s)
	u.keys(s.Keys)
}

func (u *usage) function(data []byte) {
	var f struct {
		Secrets map[string]string
		Sealed  string
	}
	_ = json.Unmarshal(data, &f)
	u.count(len(f.Secrets) > 0, f.Sealed)
}

// pageKeys is how many keys are read at a time: values may be a MiB each.
const pageKeys = 50

// each reads the keys under a prefix, a page at a time, as they are when their
// page is read.
func (s store) each(ctx context.Context, prefix string, do func(etcd.Event) error) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; from != ""; {
		r, err := s.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageKeys))
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", prefix, err)
		}
		from = ""
		for _, kv := range r.Kvs {
			if err := do(etcd.Event{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision}); err != nil {
				return err
			}
			if r.More {
				from = string(kv.Key) + "\x00"
			}
		}
	}
	return nil
}

// keyView is a key, and who needs and has it.
type keyView struct {
	Key    string   `json:"key"`
	Seals  bool     `json:"seals"`   // it is what secrets are sealed for
	InFile bool     `json:"in_file"` // the file given has it
	Values int      `json:"values"`  // in etcd, sealed for it
	Hosts  []string `json:"hosts"`   // that have it
}

// vaultView is what "secrets status" says.
type vaultView struct {
	Keys  []keyView `json:"keys"`
	Plain int       `json:"plain"` // values with a secret in plain text
	Hosts int       `json:"hosts"`
	File  string    `json:"file,omitempty"`
}

func newSecretsStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show which keys secrets are sealed for, and which hosts have them",
		Long: `Show for each key how many values in etcd are sealed for it, which hosts can open
them, and how many secrets are in plain text. A key that nothing is sealed for can
be dropped. It needs no key itself.`,
		Example: `  bulkhead secrets status
  bulkhead secrets status -o json | jq '.plain'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := a.openVault(cmd.Context())
			if err != nil {
				return err
			}
			defer v.Close()
			view, err := v.view(cmd.Context())
			if err != nil {
				return err
			}
			return a.say(view, func(w io.Writer) { view.text(w) })
		},
	}
}

func (v *vault) view(ctx context.Context) (vaultView, error) {
	u, err := v.usage(ctx)
	if err != nil {
		return vaultView{}, err
	}
	w, err := v.look(ctx, cluster.HostsPrefix)
	if err != nil {
		return vaultView{}, err
	}
	out := vaultView{Keys: []keyView{}, Plain: u.Plain}
	keys := map[string]*keyView{}
	of := func(id string) *keyView {
		if keys[id] == nil {
			keys[id] = &keyView{Key: id, Seals: id == v.sealing.ID, Values: u.Keys[id], Hosts: []string{}}
		}
		return keys[id]
	}
	for id := range u.Keys {
		of(id)
	}
	if v.sealing.ID != "" {
		of(v.sealing.ID)
	}
	if v.ring != nil {
		out.File = v.file.Path
		for _, id := range v.ring.IDs() {
			of(id).InFile = true
		}
	}
	under(w, cluster.HostsPrefix, 1, func(names []string, h cluster.Host, _ etcd.Event) {
		out.Hosts++
		for _, id := range h.Opens {
			of(id).Hosts = append(of(id).Hosts, names[0])
		}
	})
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		slices.Sort(keys[id].Hosts)
		out.Keys = append(out.Keys, *keys[id])
	}
	return out, nil
}

func (v vaultView) text(w io.Writer) {
	rows := [][]string{{"KEY", "SEALS", "VALUES", "HOSTS", "IN FILE"}}
	yes := map[bool]string{true: "yes"}
	for _, k := range v.Keys {
		hosts := fmt.Sprintf("%d of %d", len(k.Hosts), v.Hosts)
		if n := len(k.Hosts); n > 0 && n < v.Hosts {
			hosts += ": " + strings.Join(k.Hosts, " ")
		}
		rows = append(rows, []string{dash(k.Key), dash(yes[k.Seals]), strconv.Itoa(k.Values), hosts, dash(yes[k.InFile])})
	}
	table(w, rows)
	if v.Plain > 0 {
		fmt.Fprintf(w, "\n%d values hold secrets in plain text\n", v.Plain)
	}
}
