package cells

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/cellctl"
	"bulkhead/internal/kept"
)

// Spec is what an instance wants of its cell.
type Spec struct {
	Kind
	Limits Limits
	Tmp    int64 // bytes of /tmp
	Egress cluster.Egress
	At     string // where its directory is to be seen on the host, for a runner's jail
}

// Cell is one container and its directory. It is kept as cell.json beside the
// directory, where an agent that follows finds it.
type Cell struct {
	ID  string `json:"id"`
	UID int    `json:"uid"`
	Kind
	Container string `json:"container,omitempty"` // empty: it is being made
	PID       int    `json:"pid,omitempty"`
	Instance  string `json:"instance,omitempty"` // whose it is; empty: nobody's yet
	At        string `json:"at,omitempty"`
	Limits    Limits `json:"limits"`
	Tmp       int64  `json:"tmp"`
	Linked    bool   `json:"linked,omitempty"`  // it has a way out, as its instance may
	Leaving   bool   `json:"leaving,omitempty"` // its instance sleeps, or has another

	home    string    // its own directory on the host
	born    time.Time // when its container was made; zero: by an earlier agent
	making  bool      // we are at it
	burying bool      // likewise
	ready   bool      // it has a spare process
	claimed bool      // it is about to be somebody's
}

// Dir is the directory at /run/cell in the container.
func (c *Cell) Dir() string { return filepath.Join(c.home, "cell") }

func (c *Cell) control() string { return filepath.Join(c.Dir(), "control.sock") }

func (c *Cell) file() string { return filepath.Join(c.home, "cell.json") }

func (c *Cell) save() error {
	data, err := json.Marshal(c)
	if err == nil {
		err = kept.Write(c.file(), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep cell %s: %w", c.ID, err)
	}
	return nil
}

// Answers says whether the cell's control socket takes connections. It follows
// no link: tenants' code may be able to put one there. A frozen cell answers:
// its kernel does.
func (c *Cell) Answers() bool {
	k, err := c.dial()
	if err != nil {
		return false
	}
	k.Close()
	return true
}

func (c *Cell) dial() (net.Conn, error) {
	info, err := os.Lstat(c.control())
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s is no socket", c.control())
	}
	return net.DialTimeout("unix", c.control(), time.Second)
}

// Tell puts a line into the log of a cell's tenant.
func (c *Cells) Tell(id, message string) error {
	c.mu.Lock()
	cell := c.all[id]
	if cell == nil {
		c.mu.Unlock()
		return nil
	}
	one := *cell
	c.mu.Unlock()
	_, err := one.ask(cellctl.Request{Op: "tell", Message: message}, tellPatience)
	return err
}

// tellPatience bounds how long a cell may take to note a line: one that is
// frozen by then has done nothing for a while.
const tellPatience = time.Second

// ask sends the cell a request (docs/cell.md) and waits for its reply.
func (c *Cell) ask(r cellctl.Request, patience time.Duration) (cellctl.Reply, error) {
	k, err := c.dial()
	if err != nil {
		return cellctl.Reply{}, err
	}
	defer k.Close()
	k.SetDeadline(time.Now().Add(patience))
	r.ID = 1
	line, err := json.Marshal(r)
	if err == nil {
		_, err = k.Write(append(line, '\n'))
	}
	if err != nil {
		return cellctl.Reply{}, fmt.Errorf("cannot ask cell %s: %w", c.ID, err)
	}
	lines := bufio.NewScanner(k)
	for lines.Scan() {
		var a cellctl.Reply
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return a, fmt.Errorf("cannot read what cell %s replies: %w", c.ID, err)
		}
		switch {
		case a.ID != r.ID: // an event
		case a.Error != nil:
			return a, a.Error
		default:
			return a, nil
		}
	}
	return cellctl.Reply{}, fmt.Errorf("cell %s does not reply", c.ID)
}
