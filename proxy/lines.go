package proxy

import "bytes"

// What fasthttp reads leniently, and others on the way may read otherwise: two
// readings of one request are how a second one is smuggled.
var (
	badFold   = refuse(400, "bad_request", "a header goes on in a second line, which is no longer allowed (RFC 9112, section 5.2)")
	badEnd    = refuse(400, "bad_request", "a header's line must end in CR LF, not LF alone (RFC 9112, section 2.2)")
	badName   = refuse(400, "bad_request", "a header's name must be a token (RFC 9110, section 5.1)")
	badCoding = refuse(400, "bad_request", "the only transfer-encoding that is understood is chunked")
)

// checkLines looks at a request's headers as they were sent.
func checkLines(raw []byte) *refusal {
	for i := bytes.IndexByte(raw, '\n'); i >= 0; {
		if i == 0 || raw[i-1] != '\r' {
			return badEnd
		}
		if i+1 < len(raw) && (raw[i+1] == ' ' || raw[i+1] == '\t') {
			return badFold
		}
		next := bytes.IndexByte(raw[i+1:], '\n')
		if next < 0 {
			return nil
		}
		i += 1 + next
	}
	return nil
}

func isToken(name []byte) bool {
	for _, c := range name {
		if !tokenBytes[c] {
			return false
		}
	}
	return len(name) > 0
}
