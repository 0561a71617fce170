package orders

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

// state is how far the order in force has come. The zero value is no order.
type state struct {
	Order  cluster.Order  `json:"order"`
	Boot   string         `json:"boot"`  // the host's when it was begun
	Begun  time.Time      `json:"begun"` //
	Step   step           `json:"step"`  // of what can't be done twice
	Report cluster.Report `json:"report"`
}

// step is how far what can't be done twice has come.
type step string

const (
	begins step = "begins" // it may have been begun
	begun  step = "begun"  // it has
)

// begin is the state of an order that has just come.
func begin(o cluster.Order, boot string, now time.Time) state {
	return state{Order: o, Boot: boot, Begun: now, Report: cluster.Report{Order: o.ID, State: cluster.OrderDoing, Time: now}}
}

// leaves says whether the proxy is to be leaving: while the order says so, but
// not after the reboot that the order, or whoever was granted its turn, was to
// bring.
func (s state) leaves(boot string) bool {
	return s.Order.Leave && !s.rebooted(boot) && !(s.Order.Granted && s.Boot != boot)
}

// over says that nothing of the order is left to do.
func (s state) over() bool { return s.Report.State != cluster.OrderDoing }

// rebooted says that the boot has ended that the order's action was begun in,
// which is how one that reboots is done.
func (s state) rebooted(boot string) bool {
	return s.Order.Action != "" && s.Step != "" && s.Boot != boot
}

// file keeps the state on disk.
type file string

func (f file) load() (state, error) {
	var s state
	data, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return state{}, fmt.Errorf("cannot read how far the last order had come: %w", err)
	}
	return s, nil
}

func (f file) save(s state) error {
	data, err := json.Marshal(s)
	if err == nil {
		err = kept.Write(string(f), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep how far an order has come, without which it might be carried out twice: %w", err)
	}
	return nil
}
