package cell

import "bulkhead/internal/cellctl"

// What the control socket carries: docs/cell.md.
type (
	Request = cellctl.Request
	Reply   = cellctl.Reply
	Error   = cellctl.Error
	Status  = cellctl.Status
	Exit    = cellctl.Exit
	Event   = cellctl.Event
	Verdict = cellctl.Verdict
)
