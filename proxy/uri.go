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
		if len(authority) == 0 {
			return nil, nil, refuse(400, "bad_target", "a target in absolute form must name a host")
		}
		if len(path) == 0 || path[0] != '/' {
			path = append([]byte("/"), path...)
		}
	}
	for _, named := range [][]byte{authority, host} {
		if r := checkAuthority(named); r != nil {
			return nil, nil, r
		}
	}
	return path, authority, nil
}

// checkAuthority refuses what is no host and port.
func checkAuthority(authority []byte) *refusal {
	switch {
	case len(authority) > maxHost:
		return refuse(400, "bad_request", "the host has %d bytes, at most %d", len(authority), maxHost)
	case bytes.IndexByte(authority, '@') >= 0:
		return refuse(400, "bad_target", "the host must have nothing before it: no user, no @")
	}
	return nil
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

// checkMethod refuses what is no method (RFC 9110, section 9.1), and CONNECT:
// who is answered 200 to that takes all that follows for a tunnel's.
func checkMethod(method []byte) *refusal {
	switch {
	case len(method) > maxMethod || !isToken(method):
		return methodUnknown
	case string(method) == "CONNECT":
		return noTunnels
	}
	return nil
}

var methodUnknown = refuse(501, "method_unknown", "the method must be a token of at most %d characters", maxMethod)

var noTunnels = refuse(501, "method_unknown", "there are no tunnels here: CONNECT is not served")

// tokenBytes are the characters of a token (RFC 9110, section 5.6.2).
var tokenBytes = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()
