package proxy

import (
	"io"
	"time"

	"github.com/rs/zerolog"
)

// record is the one log record of a request, filled in as it descends.
type record struct {
	start    time.Time
	request  string
	client   string
	method   string
	target   string
	tenant   string
	function string
	instance string // empty: another host's proxy chose it
	host     string // whose proxy it was sent to; empty: none's, it was served here
	status   int
	cause    string // why the platform answered instead of the function
	failed   bool   // the platform is to blame
	tries    int
	counted  bool  // among its tenant's in flight
	in, out  int64 // bytes of body
}

// maxLogged bounds what a record repeats of a target: tokens may stand in the
// query, so that is left out altogether.
const maxLogged = 256

func (r *record) log(l *zerolog.Logger) {
	e := l.Log().
		Time("time", r.start).
		Str("req_id", r.request).
		Str("client", r.client).
		Str("method", r.method).
		Str("path", pathOnly(r.target)).
		Str("tenant", r.tenant).
		Str("function", r.function).
		Str("instance", r.instance).
		Int("status", r.status).
		Dur("ms", time.Since(r.start)).
		Int64("in", r.in).
		Int64("out", r.out)
	if r.host != "" {
		e = e.Str("host", r.host)
	}
	if r.cause != "" {
		e = e.Str("cause", r.cause)
	}
	if r.tries > 1 {
		e = e.Int("tries", r.tries)
	}
	e.Send()
}

func pathOnly(target string) string {
	for i := range len(target) {
		if target[i] == '?' || target[i] == '#' || i == maxLogged {
			return target[:i]
		}
	}
	return target
}

func newAccessLog(w io.Writer) *zerolog.Logger {
	l := zerolog.New(w)
	return &l
}
