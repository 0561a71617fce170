package attack

import (
	"strconv"
	"strings"

	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

// second is an answer within an answer.
const second = "HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\nContent-Length: 0\r\n\r\n"

// lies are headers that no runner as we build it passes on.
var lies = map[string]map[string]string{
	"value":  {"x-a": "x\r\nX-Smuggled: 1\r\nContent-Length: 0\r\n\r\n" + second},
	"lf":     {"x-a": "x\nX-Smuggled: 1"},
	"nul":    {"x-a": "x\x00y"},
	"name":   {"x-a: 1\r\nX-Smuggled": "1"},
	"colon":  {"x-smuggled: 1, x": "1"},
	"space":  {"x a": "1"},
	"type":   {"content-type": "text/plain\r\nX-Smuggled: 1"},
	"cookie": {"set-cookie": "a=b\r\nX-Smuggled: 1"},
	"plus":   {"content-length": "+2"},
	"twice":  {"content-length": "2", "Content-Length": "90"},
	"coding": {"transfer-encoding": "chunked"},
}

// answerEvil is a runner that has been taken over: what its tenant's code may
// never say, it says.
func answerEvil(x *framestest.Exchange) {
	what := strings.TrimPrefix(string(x.Request.Target), "/evil/")
	status, err := strconv.Atoi(what)
	switch {
	case err == nil:
		x.Answer(status, nil, second, true)
	case what == "head":
		x.Answer(200, nil, second, true)
	case what == "long":
		x.Answer(200, map[string]string{"content-length": "5"}, "abcde"+second, true)
	case what == "trailer":
		x.Answer(200, nil, "ok", false)
		x.Trail(frames.AppendHeaderLine(frames.AppendHeaderCount(nil), 0, []byte("content-length"), []byte("9")))
	default:
		x.Answer(200, lies[what], "ok", true)
	}
}
