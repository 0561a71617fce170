package breach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// OrdersEnv is the variable of the environment that has the orders, as JSON.
const OrdersEnv = "BREACH"

// ConfinedEnv is the variable that has a burglar in a container give up first
// what a cell does.
const ConfinedEnv = "BREACH_CONFINED"

// Mark begins each line that says what became of an attack; JSON follows.
const Mark = "breach: "

// Orders are what an attacker knows of the host from elsewhere.
type Orders struct {
	Secret    string   `json:"secret"`    // who sees it has got through
	Files     []string `json:"files"`     // paths on the host; the secret is in each
	Readable  []string `json:"readable"`  // the same, and everybody on the host may read them
	Neighbour int      `json:"neighbour"` // a process of another tenant
	Root      int      `json:"root"`      // a process of root's
	Sockets   []string `json:"sockets"`   // paths on the host; some say the secret to who connects
	Unsealed  bool     `json:"unsealed"`  // leave out what a runner does to itself
}

// Attempt is what became of one attack.
type Attempt struct {
	Attack  string `json:"attack"`
	Through bool   `json:"through"`
	Says    string `json:"says"` // by what way; or why not: the kernel's error by its name, or in words
}

// by is the way by which an attack got through, in the place of an error.
type by string

func (b by) Error() string { return string(b) }

// attack is one thing to try. It returns nil or a by when it got through.
type attack struct {
	name string
	try  func(*Orders) error
}

// Names are the attacks, in the order in which they are made.
func Names() []string {
	var names []string
	for _, a := range attacks() {
		names = append(names, a.name)
	}
	return names
}

func attacks() []attack {
	var all []attack
	for _, some := range [][]attack{files, writes, processes, programs, sockets, kinds(), privileges, parts()} {
		all = append(all, some...)
	}
	return all
}

// ReadOrders reads the orders from the environment; without any it returns nil.
func ReadOrders() (*Orders, error) {
	text := os.Getenv(OrdersEnv)
	if text == "" {
		return nil, nil
	}
	o := new(Orders)
	if err := json.Unmarshal([]byte(text), o); err != nil {
		return nil, fmt.Errorf("cannot read $%s: %w", OrdersEnv, err)
	}
	return o, nil
}

// Carry makes all attacks, one after another on one thread, and says to w what
// became of each as soon as it is known.
func Carry(o *Orders, w io.Writer) {
	runtime.LockOSThread()
	for _, a := range attacks() {
		err := a.try(o)
		var by by
		through := err == nil || errors.As(err, &by)
		line, _ := json.Marshal(Attempt{Attack: a.name, Through: through, Says: says(err)})
		fmt.Fprintf(w, "%s%s\n", Mark, line)
	}
}

func says(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &errno) && unix.ErrnoName(errno) != "":
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// first tries each and returns nil if one got through, else the error of the
// one that got furthest: that something is not there says less than that it is
// refused.
func first[T any](all []T, try func(T) error) error {
	best := error(errors.New("nothing to try"))
	for i, one := range all {
		err := try(one)
		var way by
		if err == nil {
			return by(fmt.Sprint(one))
		} else if errors.As(err, &way) {
			return way
		}
		if i == 0 || errors.Is(best, unix.ENOENT) {
			best = err
		}
	}
	return best
}

// errno is a raw system call's answer as an error.
func errno(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
