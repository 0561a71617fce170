package proxy

import (
	"bytes"
	"strings"

	"bulkhead/cluster"
)

// Route is what a request's target names.
type Route struct {
	Tenant   string
	Function string // empty: run the code that comes with the request
	Base     string // the part of the path that named them, without a final slash
}

// ParseRoute reads a target in origin form and the Host header. These name a
// function, with anything after its name left to the function:
//
//	/{tenant}/{function}/*
//	/api/run/{tenant}/{function}/*
//	/api/run/{tenant}                 code comes in the body
//	//{tenant}.{domain}/{function}/*  when domain is set
//
// Names are compared as they stand: a percent sign in one is no escape but an
// error, so what is routed on is what everyone behind sees.
func ParseRoute(target, host []byte, domain string) (Route, *refusal) {
	if bytes.IndexByte(target, '#') >= 0 {
		return Route{}, refuse(400, "bad_target", "the request's target has a #, which stays with the client (RFC 9112, section 3.2)")
	}
	path, _, _ := bytes.Cut(target, []byte("?"))
	if len(path) == 0 || path[0] != '/' {
		return Route{}, refuse(400, "bad_target", "the request's target must begin with a slash")
	}
	if tenant, ok := tenantOfHost(string(host), domain); ok {
		function, _, _ := strings.Cut(string(path[1:]), "/")
		return checkRoute(Route{Tenant: tenant, Function: function, Base: "/" + function}, function == "")
	}
	rest, base := string(path[1:]), ""
	if after, ok := strings.CutPrefix(rest, "api/"); ok {
		run, isRun := strings.CutPrefix(after, "run/")
		if !isRun {
			return Route{}, refuse(404, "unknown_api", "unable to resolve %q: this API has /api/run/{tenant} and /api/run/{tenant}/{function}", clip(string(path)))
		}
		rest, base = run, "/api/run"
	}
	tenant, after, _ := strings.Cut(rest, "/")
	function, _, _ := strings.Cut(after, "/")
	r := Route{Tenant: tenant, Function: function, Base: base + "/" + tenant}
	if function != "" {
		r.Base += "/" + function
	}
	return checkRoute(r, function == "" && base == "")
}

func checkRoute(r Route, incomplete bool) (Route, *refusal) {
	if err := cluster.CheckTenant(r.Tenant); err != nil {
		return Route{}, refuse(404, "tenant_unknown", "unable to resolve %v", clip(err.Error()))
	}
	if incomplete {
		return Route{}, refuse(404, "function_unknown", "unable to resolve a function: the path must go on with its name, as in /%s/hello", r.Tenant)
	}
	if r.Function == "" {
		return r, nil
	}
	if err := cluster.CheckFunction(r.Function); err != nil {
		return Route{}, refuse(404, "function_unknown", "unable to resolve %v", clip(err.Error()))
	}
	return r, nil
}

// tenantOfHost returns the tenant that a Host header names under domain.
func tenantOfHost(host, domain string) (string, bool) {
	if domain == "" {
		return "", false
	}
	host, _, _ = strings.Cut(host, ":")
	host = strings.TrimSuffix(strings.ToLower(host), ".") // the same name, and of the root
	tenant, ok := strings.CutSuffix(host, "."+domain)
	return tenant, ok && tenant != "" && !strings.Contains(tenant, ".")
}

// clip bounds what an error repeats of what others have said.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
