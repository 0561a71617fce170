package runner

import (
	"crypto/sha256"
	"encoding/hex"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
)

// oneOff gathers code that came as a request's body: POST /api/run/{tenant}.
type oneOff struct {
	code []byte
	head []byte // the request's REQUEST frame, without its body
}

// beginOneOff starts to gather code.
func (c *call) beginOneOff(req frames.Request, end bool) {
	head, refusal := c.encode(withoutBody(req), true)
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	c.code = &oneOff{head: head}
	c.collect(req.Body, end)
}

// collect takes some of the code, and runs it once it is whole.
func (c *call) collect(p []byte, end bool) {
	if !c.hold(len(p)) {
		return
	}
	c.code.code = append(c.code.code, p...)
	if len(p) > 0 && !end {
		c.r.queue(c.in.link, func(dst []byte) []byte { return frames.AppendWindow(dst, c.id, len(p)) })
	}
	if !end {
		return
	}
	record := oneOffRecord(c.code.code)
	c.function = oneOffName(record.Version)
	head := c.code.head
	c.code = nil
	c.release()
	c.r.send(c, record, head)
}

// withoutBody is the request as the code that it carried sees it.
func withoutBody(req frames.Request) frames.Request {
	headers := frames.AppendHeaderCount(nil)
	for name, value := range req.Headers.All() {
		if n := string(name); n != "content-length" && n != "content-type" {
			headers = frames.AppendHeaderLine(headers, 0, name, value)
		}
	}
	req.Headers, req.Body = headers, nil
	return req
}

// oneOffRecord makes code a function of its own: the same code is the same
// function, so its second run finds a warm process.
func oneOffRecord(code []byte) *cluster.Function {
	sum := sha256.Sum256(code)
	return &cluster.Function{File: "code.js", Code: string(code), Version: hex.EncodeToString(sum[:])}
}
