package cluster

// Spec is what an operator says about a tenant: the value of [TenantKey].
// Every field but Keys has a default ([DefaultSpec]).
type Spec struct {
	Keys      []Key             `json:"keys"`               // at least one, at most 16
	Replicas  Replicas          `json:"replicas,omitzero"`  // how many instances
	Resources Resources         `json:"resources,omitzero"` // what one instance may use
	Limits    Limits            `json:"limits,omitzero"`    // what one request may do
	Modules   map[string]string `json:"modules,omitempty"`  // npm package to exact version
	Egress    Egress            `json:"egress,omitzero"`    // where the code may connect to
	Database  *Database         `json:"database,omitempty"` // a database of the tenant's own
	Placement PlacementHints    `json:"placement,omitzero"` // where instances may run
}

// Key verifies tokens. Secret is for HS256; Public, a PEM public key, is for
// RS256, ES256 and EdDSA (RFC 7518, RFC 8037). The algorithm is pinned: a
// token whose header names another is refused whatever its signature.
type Key struct {
	KID    string `json:"kid"`              // 1 to 64 characters, unique in the spec
	Alg    string `json:"alg"`              // HS256, RS256, ES256 or EdDSA
	Secret string `json:"secret,omitempty"` // HS256: at least 32 bytes (RFC 7518, section 3.2)
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
	Block       Duration `json:"block"`       // event loop blocked by code that burns CPU
	Wall        Duration `json:"wall"`        // from request to the end of its answer
	Body        Bytes    `json:"body"`        // request body
	Code        Bytes    `json:"code"`        // source of one function
	Rate        float64  `json:"rate"`        // requests a second, per instance; 0: no limit
	Concurrency int      `json:"concurrency"` // requests in flight, per instance
}

// Egress says where a tenant's code may connect to, by name or CIDR.
type Egress struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
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
