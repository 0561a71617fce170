package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// Record says who did what. It is kept as one line of JSON.
type Record struct {
	N        int64     `json:"n"`                 // from 1, without gaps
	At       time.Time `json:"at"`                // when it was recorded, by the leading scheduler's clock
	Revision int64     `json:"revision"`          // etcd's, of the change
	By       string    `json:"by,omitempty"`      // user of etcd; empty: he did not say
	Says     string    `json:"says,omitempty"`    // who he says he is, as user@machine
	With     string    `json:"with,omitempty"`    // the command he gave, without its arguments
	Did      string    `json:"did"`               // created, changed, removed, …
	What     string    `json:"what,omitempty"`    // "tenant acme", "function acme/hello", …
	Key      string    `json:"key,omitempty"`     // in etcd
	Changed  []string  `json:"changed,omitempty"` // paths in the value
	Value    string    `json:"value,omitempty"`   // SHA-256 of the value, in hex
	Note     string    `json:"note,omitempty"`    // what else there is to say
	Prev     string    `json:"prev"`              // SHA-256 of the line before, in hex; of the first: zeros
}

// Claim is what a user of etcd says of himself in a transaction.
type Claim struct {
	Says string   `json:"says,omitempty"` // user@machine
	With string   `json:"with,omitempty"` // the command, without its arguments
	Did  string   `json:"did,omitempty"`  // what was done that changes no key that is followed
	What string   `json:"what,omitempty"` // to whom
	Keys []string `json:"keys,omitempty"` // that are written with it
	At   int64    `json:"at"`             // nanoseconds since 1970: no claim is like the one before
}

// longest is the most characters of a claim's text that are recorded, and
// mostPaths the most paths.
const (
	longest   = 200
	mostPaths = 20
)

// Followed are the prefixes whose changes are recorded, and what is below each.
var Followed = map[string]string{
	cluster.TenantsPrefix:     "tenant",
	cluster.FunctionsPrefix:   "function",
	cluster.RevocationsPrefix: "revoked tokens of tenant",
	cluster.SealingPrefix:     "sealing",
	cluster.ModulesPrefix:     "module",
	cluster.ModulePolicyKey:   "policy of modules",
	cluster.InventoryPrefix:   "inventory of host",
	cluster.CordonsPrefix:     "cordon of host",
	cluster.DrainsPrefix:      "drain of host",
	cluster.RolloutsPrefix:    "rollout",
}

// Records are what is to be recorded of changes, in the order of their
// revisions. What the chain is for is left for [chain.add].
func Records(events []etcd.Event) []Record {
	var records []Record
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].Revision == events[0].Revision {
			n++
		}
		records = append(records, ofTransaction(events[:n])...)
		events = events[n:]
	}
	return records
}

func ofTransaction(events []etcd.Event) (records []Record) {
	var by string
	var claim Claim
	for _, e := range events {
		if user, ok := strings.CutPrefix(e.Key, cluster.ClaimsPrefix); ok && !e.Deleted {
			by = clean(user)
			if json.Unmarshal(e.Value, &claim) != nil {
				claim = Claim{Says: "something that cannot be read"}
			}
		}
	}
	for _, e := range events {
		what, ok := describe(e.Key)
		if !ok {
			continue
		}
		r := Record{Revision: e.Revision, Key: clean(e.Key), What: clean(what), Did: did(e)}
		if !e.Deleted {
			r.Value = digest(e.Value)
			r.Changed = bounded(paths(e.Before, e.Value))
			r.Note = reason(e)
		}
		records = append(records, r)
	}
	if len(records) == 0 && by != "" && (claim.Did != "" || slices.ContainsFunc(claim.Keys, decides)) {
		records = []Record{{Revision: events[0].Revision, Did: "wrote", What: clean(claim.What), Key: clean(strings.Join(claim.Keys, " "))}}
		if claim.Did != "" {
			records[0].Did = clean(claim.Did)
		}
	}
	for i := range records {
		records[i].By, records[i].Says, records[i].With = by, clean(claim.Says), clean(claim.With)
	}
	return records
}

// decides reports whether a key that is not followed holds a decision all the
// same, as the turn of a host does that somebody takes away, and not how far a
// builder is.
func decides(key string) bool {
	for _, prefix := range []string{cluster.BuildsPrefix, cluster.SetsPrefix, cluster.BuildersPrefix} {
		if strings.HasPrefix(key, prefix) {
			return false
		}
	}
	return true
}

// describe says in words what a key is of, if its changes are recorded.
func describe(key string) (string, bool) {
	for prefix, word := range Followed {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			return strings.TrimSpace(word + " " + name), true
		}
	}
	return "", false
}

func did(e etcd.Event) string {
	switch {
	case e.Deleted:
		return "removed"
	case e.Created == e.Revision:
		return "created"
	}
	return "changed"
}

// reason is the value of a key whose value is one.
func reason(e etcd.Event) string {
	if strings.HasPrefix(e.Key, cluster.CordonsPrefix) || strings.HasPrefix(e.Key, cluster.DrainsPrefix) {
		return clean(string(e.Value))
	}
	return ""
}

// clean is text that anybody may have written, fit for one line of a terminal.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return text
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
