// Package cellctl holds the messages of the cell's control socket
// (docs/cell.md): the runner outside the container sends them, the cell inside
// answers.
package cellctl

// Request is one line from the runner (docs/cell.md).
type Request struct {
	ID       int64             `json:"id"`
	Op       string            `json:"op"` // serve, stop, kill, status, inquest, limit, logs, tell
	Function string            `json:"function,omitempty"`
	Version  string            `json:"version,omitempty"`
	File     string            `json:"file,omitempty"`
	Code     string            `json:"code,omitempty"`
	Meta     map[string]string `json:"meta,omitempty"`
	Secrets  map[string]string `json:"secrets,omitempty"`
	Socket   string            `json:"socket,omitempty"`  // of inquest, and of a kill that means one process
	Reason   string            `json:"reason,omitempty"`  // of kill: what the inquest will say
	Limits   *Limits           `json:"limits,omitempty"`  // of serve
	Memory   int64             `json:"memory,omitempty"`  // of limit: bytes
	Modules  *Modules          `json:"modules,omitempty"` // of serve
	Message  string            `json:"message,omitempty"` // of tell
}

// Modules are the npm packages that a function may require.
type Modules struct {
	Dir string   `json:"dir"` // in the container: a directory with node_modules
	Has []string `json:"has"` // what it may ask for, in order: "express", "lodash@4.17.21"
}

// Limits are what the watchdog holds a process to, in milliseconds; 0: not
// watched.
type Limits struct {
	Block      int64 `json:"block,omitempty"`      // CPU in one turn of the event loop
	CPU        int64 `json:"cpu,omitempty"`        // CPU without finishing any request
	Background int64 `json:"background,omitempty"` // work after the answer
}

// Reply answers the request with the same ID.
type Reply struct {
	ID         int64    `json:"id"`
	Socket     string   `json:"socket,omitempty"`
	PID        int      `json:"pid,omitempty"`
	Error      *Error   `json:"error,omitempty"`
	Spares     int      `json:"spares,omitempty"`
	Processes  []Status `json:"processes,omitempty"`
	Busy       int      `json:"busy,omitempty"`       // of status: requests in flight, and work that ctx.waitUntil holds on to
	Interfaces int      `json:"interfaces,omitempty"` // of status: network interfaces but loopback
	Exit       *Exit    `json:"exit,omitempty"`
}

// Error says why a function is not being served. Status is an HTTP status: 400
// when the code is at fault, 503 when the cell has no room or is stopping.
type Error struct {
	Status  int    `json:"status"`
	Code    string `json:"code"` // syntax_error, load_error, not_a_function, bad_arity, load_timeout, no_room, …
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Status is one function process.
type Status struct {
	Function string `json:"function"`
	Version  string `json:"version"`
	Socket   string `json:"socket"`
	PID      int    `json:"pid"`
	Since    string `json:"since"` // RFC 3339
}

// Exit is the result of an inquest.
type Exit struct {
	Code   int    `json:"code"`   // exit code; 0 when a signal ended it
	Signal string `json:"signal"` // SIGKILL, SIGSEGV, …; empty: it exited
	OOM    bool   `json:"oom"`    // it ran out of memory, V8's heap or the container's
	Reason string `json:"reason"` // in words

	Request string   `json:"request,omitempty"` // in whose synchronous turn it ended; empty: can't be told
	Where   string   `json:"where,omitempty"`   // file:line:column of the tenant's code; empty: can't be told
	Verdict *Verdict `json:"verdict,omitempty"` // when the watchdog ended it
}

// Verdict is what the watchdog stopped, and whose it was (docs/cell.md).
type Verdict struct {
	Kind     string `json:"kind"`              // block, stall, storm, idle
	Request  string `json:"request,omitempty"` // id; empty: can't be told
	Limit    int64  `json:"limit"`             // milliseconds
	Measured int64  `json:"measured"`          // milliseconds
	Where    string `json:"where,omitempty"`   // file:line:column of the tenant's code
	In       string `json:"in,omitempty"`      // the function it is in
	Killed   bool   `json:"killed,omitempty"`  // it could not be stopped, and the process was ended
	Native   bool   `json:"native,omitempty"`  // because it was in a native call
}

// Event goes to every control connection unasked, but for a log's, which goes
// to the one that asked for logs.
type Event struct {
	Event    string   `json:"event"` // exit, verdict, log
	Function string   `json:"function,omitempty"`
	Version  string   `json:"version,omitempty"`
	Socket   string   `json:"socket,omitempty"`
	Exit     *Exit    `json:"exit,omitempty"`
	Verdict  *Verdict `json:"verdict,omitempty"`

	// Of a log line.
	Time    string `json:"time,omitempty"`
	Request string `json:"request,omitempty"`
	Level   string `json:"level,omitempty"`
	Message string `json:"message,omitempty"`
}
