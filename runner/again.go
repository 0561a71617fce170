package runner

import "bulkhead/internal/frames"

// maxAgain is the largest request that is kept to be asked again, in bytes.
const maxAgain = 16 << 10

// again is a request that a second process may be asked, when the first ends
// through no fault of this one.
type again []byte // a REQUEST frame

// againOf keeps a request when asking twice does no harm: its method is
// idempotent (RFC 9110, section 9.2.2), and all of it is here.
func againOf(req frames.Request, request []byte, whole bool) again {
	if !whole || len(request) > maxAgain {
		return nil
	}
	switch string(req.Method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return request
	}
	return nil
}

// keep counts what is kept of a request that a process has. Where there is no
// room for it, it is not kept.
func (c *call) keep() {
	if c.again == nil {
		return
	}
	n := len(c.again)
	if c.r.held+n > maxHeld {
		c.again = nil
		return
	}
	c.held += n
	c.r.held += n
}

// askAgain gives the call to another process, of the version that is current.
func (c *call) askAgain() {
	request := c.again
	c.retried, c.again = true, nil
	c.release()
	record, refusal := c.r.functions.get(c.r.config.Tenant, c.function)
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	c.r.send(c, record, request)
}
