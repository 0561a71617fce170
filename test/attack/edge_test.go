package attack

import "testing"

func TestEveryAttackOnTheEdge(t *testing.T) {
	s := newSite(t)
	dripping := s.drip(t)
	var rows []row
	for _, a := range s.edgeAttacks() {
		t.Run(a.attack, func(t *testing.T) {
			raw := a.raw
			if !a.alone {
				raw += s.neighbour()
			}
			rows = append(rows, s.try(t, a.attack, raw, a.want, a.alone))
		})
	}
	rows = append(rows, dripping(t))
	compare(t, "edge", rows)
}
