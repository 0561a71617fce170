package proxy

import "bytes"

// maxHost bounds the authority that a request names, in bytes. DNS names have
// at most 253.
const maxHost = 1 << 10

// splitTarget takes a request's target apart (RFC 9112, section 3.2): the path
// and query that everyone behind sees, and the authority, which in absolute
// form is the target's and not the Host header's.
func splitTarget(target, host []byte) (path, authority []byte, r *refusal) {
	path, authority = target, host
	if rest, absolute := cutScheme(target); absolute {
		end := bytes.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		authority, path = rest[:end], rest[end:]
		if len(authority) == 0 || bytes.IndexByte(authority, '@') >= 0 {
			return nil, nil, refuse(400, "bad_target", "a target in absolute form must name a host, and nothing before it")
		}
		if len(path) == 0 || path[0] != '/' {
			path = append([]byte("/"), path...)
		}
	}
	if len(authority) > maxHost {
		return nil, nil, refuse(400, "bad_request", "the host has %d bytes, at most %d", len(authority), maxHost)
	}
	return path, authority, nil
}

// cutScheme returns what follows http:// or https://, if one is there.
func cutScheme(target []byte) (rest []byte, absolute bool) {
	if len(target) == 0 || target[0] == '/' {
		return nil, false
	}
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) >= len(scheme) && bytes.EqualFold(target[:len(scheme)], []byte(scheme)) {
			return target[len(scheme):], true
		}
	}
	return nil, false
}

// maxMethod bounds a method's name, in bytes. No registered one has more than
// 17.
const maxMethod = 32

// checkMethod refuses what is no method (RFC 9110, section 9.1).
func checkMethod(method []byte) *refusal {
	if len(method) == 0 || len(method) > maxMethod {
		return methodUnknown
	}
	for _, c := range method {
		if !tokenBytes[c] {
			return methodUnknown
		}
	}
	return nil
}

var methodUnknown = refuse(501, "method_unknown", "the method must be a token of at most %d characters", maxMethod)

// tokenBytes are the characters of a token (RFC 9110, section 5.6.2).
var tokenBytes = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()
