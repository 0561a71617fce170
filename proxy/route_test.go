package proxy

import "testing"

func TestTargetsNameTenantAndFunction(t *testing.T) {
	tests := []struct {
		target, host string
		want         Route
	}{
		{"/acme/hello", "", Route{"acme", "hello", "/acme/hello"}},
		{"/acme/hello/", "", Route{"acme", "hello", "/acme/hello"}},
		{"/acme/hello/a/b?x=1", "", Route{"acme", "hello", "/acme/hello"}},
		{"/acme/hello?x=/y", "", Route{"acme", "hello", "/acme/hello"}},
		{"/acme/he.llo_1-2", "", Route{"acme", "he.llo_1-2", "/acme/he.llo_1-2"}},
		{"/acme/hello/..%2f..%2fglobex", "", Route{"acme", "hello", "/acme/hello"}},
		{"/api/run/acme/hello/a", "", Route{"acme", "hello", "/api/run/acme/hello"}},
		{"/api/run/acme", "", Route{"acme", "", "/api/run/acme"}},
		{"/api/run/acme/", "", Route{"acme", "", "/api/run/acme"}},
		{"/api/run/acme?key=x", "", Route{"acme", "", "/api/run/acme"}},
		{"/hello/a", "acme.example.org", Route{"acme", "hello", "/hello"}},
		{"/hello", "ACME.example.org:8080", Route{"acme", "hello", "/hello"}},
		{"/acme/hello", "example.org", Route{"acme", "hello", "/acme/hello"}},
		{"/acme/hello", "a.b.example.org", Route{"acme", "hello", "/acme/hello"}},
	}
	for _, tt := range tests {
		got, refusal := ParseRoute([]byte(tt.target), []byte(tt.host), "example.org")
		if refusal != nil || got != tt.want {
			t.Errorf("%s of %q: got %+v %+v, want %+v", tt.target, tt.host, got, refusal, tt.want)
		}
	}
}

func TestOtherTargetsAreRefused(t *testing.T) {
	for target, status := range map[string]int{
		"":                             400,
		"*":                            400,
		"http://x/acme/hello":          400,
		"/":                            404,
		"//acme/hello":                 404,
		"/acme":                        404,
		"/acme/":                       404,
		"/ACME/hello":                  404,
		"/-/healthz":                   404,
		"/../etc/passwd":               404,
		"/acme/..":                     404,
		"/acme/%2e%2e/x":               404,
		"/ac%6de/hello":                404,
		"/acme/hel%00lo":               404,
		"/acme/a\\b":                   404,
		"/api/webtask/acme":            404,
		"/api/run":                     404,
		"/api/run/../acme":             404,
		"/" + string(make([]byte, 99)): 404,
	} {
		got, refusal := ParseRoute([]byte(target), nil, "")
		if refusal == nil || refusal.status != status {
			t.Errorf("%q: got %+v %+v, want %d", target, got, refusal, status)
		}
	}
}

func FuzzParseRoute(f *testing.F) {
	f.Add("/acme/hello/x?y", "acme.example.org")
	f.Fuzz(func(t *testing.T, target, host string) {
		r, refusal := ParseRoute([]byte(target), []byte(host), "example.org")
		if refusal != nil {
			return
		}
		again, refusal := ParseRoute([]byte("/"+r.Tenant+"/"+r.Function), nil, "")
		if r.Function != "" && (refusal != nil || again.Tenant != r.Tenant || again.Function != r.Function) {
			t.Fatalf("%q of %q is %+v, but its names are not names", target, host, r)
		}
	})
}
