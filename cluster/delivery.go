package cluster

import "encoding/json"

// Manifest says which functions a host has of a tenant: the value of
// [ManifestKey]. Host and scheduler need not agree on time: as of Revision the
// tenant had exactly these functions.
type Manifest struct {
	Revision  int64            `json:"revision"`
	Functions map[string]int64 `json:"functions"` // by name: revision of the function's key that was copied
}

// Copy is a tenant's function, as one host gets it: the value of [CopyKey].
type Copy struct {
	Source   int64           `json:"source"`   // revision of the function's key that it is a copy of
	Function json.RawMessage `json:"function"` // what stood there
	// From are hosts that may have the set of npm modules that it names, with the
	// addresses of their proxies (host:port).
	From map[string]string `json:"from,omitempty"`
}

// Route lets a host serve an instance: the value of [RouteKey]. The scheduler
// writes it with the placement, so a host can't have itself sent the requests
// of tenants that were not placed on it. Whether the instance is ready is for
// its host to say ([Instance]).
type Route struct {
	Tenant   string `json:"tenant"`
	Instance string `json:"instance"`
	Host     string `json:"host"`
	Address  string `json:"address,omitempty"` // host:port of its host's proxy, for other hosts' proxies
	// Leaving: it is going to be removed, so others come first.
	Leaving bool `json:"leaving,omitempty"`
}
