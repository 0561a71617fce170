package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxRevocations is the most that a tenant may have at once: every placement
// carries them.
const MaxRevocations = 256

// Revocation refuses tokens that would be good otherwise: one of a list, the
// value of [RevocationsKey]. It has an ID, a Sum or Before.
type Revocation struct {
	// ID refuses the tokens of this name (jti).
	ID string `json:"jti,omitempty"`
	// Sum refuses one token that has no name: the SHA-256, in hex, of what is
	// signed of it (RFC 7515, section 5.1: the header, a dot and the claims).
	Sum string `json:"sum,omitempty"`
	// Before refuses tokens issued up to and with this second since 1970, or
	// that don't say when they were: of KID those alone, if that is set, that
	// the key of this name has signed, or that name none.
	Before int64  `json:"before,omitempty"`
	KID    string `json:"kid,omitempty"`
	// Until is the second since 1970 from when it refuses nothing any more,
	// because what it refuses has expired; 0: never.
	Until int64 `json:"until,omitempty"`
}

// DecodeRevocations reads the value of a [RevocationsKey].
func DecodeRevocations(data []byte) ([]Revocation, error) {
	var all []Revocation
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, errors.New("is no list of revocations: want what bulkhead token revoke writes")
	}
	if len(all) > MaxRevocations {
		return nil, fmt.Errorf("has %d revocations: want at most %d", len(all), MaxRevocations)
	}
	for i, r := range all {
		kinds := 0
		for _, is := range []bool{r.ID != "", r.Sum != "", r.Before != 0} {
			if is {
				kinds++
			}
		}
		if kinds != 1 || r.KID != "" && r.Before == 0 || r.Before < 0 || r.Until < 0 {
			return nil, fmt.Errorf("[%d]: is no revocation: want one of jti, sum and before", i)
		}
	}
	return all, nil
}

// Revoke adds a revocation to a list, in place of those that it makes
// needless, and without those whose tokens have expired. One that others make
// needless is left out.
func Revoke(all []Revocation, r Revocation, now time.Time) []Revocation {
	all = slices.DeleteFunc(slices.Clone(all), func(old Revocation) bool {
		return old.Until != 0 && now.Unix() > old.Until || r.Covers(old)
	})
	if slices.ContainsFunc(all, func(old Revocation) bool { return old.Covers(r) }) {
		return all
	}
	return append(all, r)
}

// Covers says whether r refuses all that another does, for as long.
func (r Revocation) Covers(other Revocation) bool {
	lasts := r.Until == 0 || other.Until != 0 && other.Until <= r.Until
	if r.Before != 0 {
		return lasts && other.Before != 0 && other.Before <= r.Before && (r.KID == "" || r.KID == other.KID)
	}
	return lasts && r.ID == other.ID && r.Sum == other.Sum && other.Before == 0
}

// What says in words which tokens it refuses.
func (r Revocation) What() string {
	switch {
	case r.ID != "":
		return fmt.Sprintf("token %q is", r.ID)
	case r.Sum != "":
		return "the token is"
	case r.KID != "":
		return fmt.Sprintf("tokens of key %s issued up to %s are", r.KID, time.Unix(r.Before, 0).UTC().Format(time.RFC3339))
	}
	return "tokens issued up to " + time.Unix(r.Before, 0).UTC().Format(time.RFC3339) + " are"
}
