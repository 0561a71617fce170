package units

// State is a unit as something that runs units observes it.
type State struct {
	Name   string
	Active string // as systemd says it: active, activating, deactivating, inactive, failed
	Sub    string // finer, and by type: listening and running for sockets, running and dead for services
	Text   string // the installed unit file; empty when there is none
}

// Up says whether the unit is active or about to be.
func (s State) Up() bool { return s.Active == "active" || s.Active == "activating" }

// Slices returns the slices above and including a slice, outermost first:
// a-b.slice nests below a.slice (systemd.slice(5)).
func Slices(name string) []string {
	base := name[:len(name)-len(".slice")]
	var all []string
	for i, r := range base {
		if r == '-' {
			all = append(all, base[:i]+".slice")
		}
	}
	return append(all, name)
}
