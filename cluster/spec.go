package cluster

// Spec is what an operator says about a tenant: the value of [TenantKey].
// Every field but Keys has a default ([DefaultSpec]).
type Spec struct {
	Keys      []Key             `json:"keys"`               // at least one, at most 16
	Replicas  Replicas          `json:"replicas,omitzero"`  // how many instances
	Resources Resources         `json:"resources,omitzero"` // what one instance may use
	Limits    Limits            `json:"limits,omitzero"`    // what one request may do
	Sleep     Sleep             `json:"sleep,omitzero"`     // when an idle instance gives up what it holds
	Modules   map[string]string `json:"modules,omitempty"`  // npm packages and ranges that all functions want, as [FunctionModules.Want]
	Egress    Egress            `json:"egress,omitzero"`    // where the code may connect to
	Runtime   string            `json:"runtime,omitempty"`  // OCI runtime of its containers, as the hosts' engines name it; empty: theirs
	Database  *Database         `json:"database,omitempty"` // a database of the tenant's own
	Placement PlacementHints    `json:"placement,omitzero"` // where instances may run
}

// SealedAlg stands in a [Placement] for the HS256 of a key that is sealed: an
// agent or a runner that doesn't know of sealing, and would take the key's
// secret for empty, knows no such algorithm either.
const SealedAlg = "HS256, sealed"

// Key verifies tokens. Secret is for HS256; Public, a PEM public key, is for
// RS256, ES256 and EdDSA (RFC 7518, RFC 8037). The algorithm is pinned: a
// token whose header names another is refused whatever its signature.
type Key struct {
	KID    string `json:"kid"`              // 1 to 64 characters, unique in the spec
	Alg    string `json:"alg"`              // HS256, RS256, ES256 or EdDSA
	Secret string `json:"secret,omitempty"` // HS256: at least 32 bytes (RFC 7518, section 3.2)
	Sealed string `json:"sealed,omitempty"` // HS256: the secret, as package sealed makes it; in place of Secret
	Public string `json:"public,omitempty"` // PEM; RSA of at least 2048 bits
}

// Replicas bounds the number of instances.
type Replicas struct {
	Min         int `json:"min"`         // instances kept ready; 0 lets the tenant go dormant
	Max         int `json:"max"`         // at least 1 and at least Min
	Concurrency int `json:"concurrency"` // requests in flight per instance that call for another
}

// Resources is what one instance may use, and what a host has to give.
type Resources struct {
	Memory Bytes   `json:"memory"` // of runner and container together
	CPU    float64 `json:"cpu"`    // cores
	Pids   int     `json:"pids"`   // processes and threads
	Tmp    Bytes   `json:"tmp"`    // size of /tmp, which counts as memory
}

// Limits is what one request, or a tenant's requests together, may do.
type Limits struct {
	Block       Duration `json:"block"`       // CPU burned in one turn of the event loop
	CPU         Duration `json:"cpu"`         // CPU burned by a process without finishing any request
	Background  Duration `json:"background"`  // work after the answer
	Wall        Duration `json:"wall"`        // from request to the end of its answer
	Body        Bytes    `json:"body"`        // request body
	Code        Bytes    `json:"code"`        // source of one function
	Rate        float64  `json:"rate"`        // requests a second, per instance; 0: no limit
	Concurrency int      `json:"concurrency"` // requests in flight, per instance
	Quota       Quota    `json:"quota,omitzero"`
}

// Quota is how many requests may come in a window of the calendar (UTC), per
// instance; 0: any number.
type Quota struct {
	Minute int `json:"minute,omitempty"`
	Hour   int `json:"hour,omitempty"`
	Day    int `json:"day,omitempty"`
	Week   int `json:"week,omitempty"` // from Monday
	Month  int `json:"month,omitempty"`
}

// Sleep says after what idle time an instance is frozen, and after what time
// it has no process any more. 0: never.
type Sleep struct {
	Freeze  Duration `json:"freeze"`
	Dormant Duration `json:"dormant"`
}

// LowerLimits are limits that a function or a token sets below its tenant's;
// what is 0 is not set. A function has all of them, a token Wall, Body, Rate
// and Concurrency.
type LowerLimits struct {
	Block       Duration `json:"block,omitempty"`
	CPU         Duration `json:"cpu,omitempty"`
	Wall        Duration `json:"wall,omitempty"`
	Background  Duration `json:"background,omitempty"`
	Body        Bytes    `json:"body,omitempty"`
	Rate        float64  `json:"rate,omitempty"`        // of the function's, or the token's, own requests
	Concurrency int      `json:"concurrency,omitempty"` // likewise
}

// Under returns limits with those of lower that are lower; Rate and
// Concurrency, which count others' requests too, stay.
func (l Limits) Under(lower *LowerLimits) Limits {
	if lower == nil {
		return l
	}
	l.Block, l.CPU = least(l.Block, lower.Block), least(l.CPU, lower.CPU)
	l.Wall, l.Background = least(l.Wall, lower.Wall), least(l.Background, lower.Background)
	l.Body = least(l.Body, lower.Body)
	return l
}

func least[T Duration | Bytes](a, b T) T {
	if b > 0 && b < a {
		return b
	}
	return a
}

// Database asks for a database of the tenant's own.
type Database struct {
	Engine string `json:"engine"` // postgres
	Size   Bytes  `json:"size"`
}

// PlacementHints narrows the hosts that may run a tenant's instances.
type PlacementHints struct {
	Labels map[string]string `json:"labels,omitempty"` // a host must have them all
	Spread string            `json:"spread,omitempty"` // label over whose values to spread
}
