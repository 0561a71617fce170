package scheduler

import (
	"encoding/json"
	"log/slog"
	"reflect"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func (s *snapshot) seeHost(name string, e etcd.Event, now time.Time) {
	h := s.host(name, now)
	if e.Deleted {
		if h.claim != nil {
			h.lost(now, s.rolls.expected(name))
		}
		h.claim = nil
		s.believe(h)
		return
	}
	var claim cluster.Host
	if err := json.Unmarshal(e.Value, &claim); err != nil || claim.Name != name {
		slog.Warn("a host's presence cannot be read, keeping the last good one", "host", name, "error", err)
		return
	}
	if h.claim == nil {
		h.back = now
	}
	h.claim, h.seen = &claim, true
	s.believe(h)
}

func (s *snapshot) seeInventory(name string, e etcd.Event, now time.Time) {
	h := s.host(name, now)
	var next *cluster.Inventory
	if !e.Deleted {
		next = &cluster.Inventory{}
		if err := json.Unmarshal(e.Value, next); err != nil {
			slog.Warn("a host's inventory cannot be read, keeping the last good one", "host", name, "error", err)
			return
		}
	}
	h.inventory = next
	s.believe(h)
}

// believe makes of what a host claims what it is taken for, and has planned
// again whom that concerns.
func (s *snapshot) believe(h *host) {
	var next *cluster.Host
	h.member = h.member && h.claim == nil || h.inventory != nil && h.inventory.Member
	if h.claim != nil {
		h.member = h.member || h.claim.Member
		taken := h.inventory.Limit(*h.claim)
		next = &taken
		h.off, h.confirmed, h.address = false, false, taken.Address
	} else if h.inventory != nil && h.inventory.Address != "" {
		h.address = h.inventory.Address
	}
	if h.presence == nil && next == nil || h.presence != nil && next != nil && reflect.DeepEqual(*h.presence, *next) {
		s.drop(h)
		return
	}
	h.presence, s.index = next, nil
	s.markHost(h)
	s.drop(h)
}

// seeReason follows the cordons and drains of hosts: their values are reasons.
func (s *snapshot) seeReason(name string, e etcd.Event, now time.Time, of func(*host) **string) {
	h := s.host(name, now)
	at := of(h)
	if *at = nil; !e.Deleted {
		reason := string(e.Value)
		*at = &reason
	}
	s.markHost(h) // who waits has more to choose from, or another reason
	s.drop(h)
}

func cordonOf(h *host) **string { return &h.cordon }
func drainOf(h *host) **string  { return &h.drain }
