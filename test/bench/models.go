package main

import (
	"context"
	"time"
)

// model is a function of one programming model (docs/functions.md) that does
// the same work as the bare server: read the query, answer JSON.
type model struct{ name, file, code string }

var models = []model{
	{"(cb)", "cb.js", `module.exports = (cb) => cb(null, { hello: 'x' });`},
	{"(ctx, cb)", "ctxcb.js", `module.exports = (ctx, cb) => cb(null, { hello: ctx.query.name || 'x' });`},
	{"async (ctx)", "async.js", `module.exports = async (ctx) => ({ hello: ctx.query.name || 'x' });`},
	{"(ctx, req, res)", "reqres.js", `const large = Buffer.alloc(1 << 20, 'x');
module.exports = (ctx, req, res) => {
  const path = req.url.split('?')[0];
  if (path === '/echo') {
    res.writeHead(200, { 'content-type': 'application/octet-stream' });
    return req.pipe(res);
  }
  if (path === '/down') {
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': large.length });
    return res.end(large);
  }
  const json = (value) => {
    const body = JSON.stringify(value);
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    res.end(body);
  };
  if (path === '/up') {
    let bytes = 0;
    req.on('data', (chunk) => { bytes += chunk.length; }).on('end', () => json({ bytes }));
    return;
  }
  json({ hello: ctx.query.name || 'x' });
};`},
	{"fetch", "fetch.mjs", `const large = new Uint8Array(1 << 20).fill(120);
const json = (value) => new Response(JSON.stringify(value), { headers: { 'content-type': 'application/json' } });
const bytes = { 'content-type': 'application/octet-stream' };
export default { async fetch(request) {
  const url = new URL(request.url);
  if (url.pathname.endsWith('/echo')) return new Response(request.body, { headers: bytes });
  if (url.pathname.endsWith('/down')) return new Response(large, { headers: bytes });
  if (url.pathname.endsWith('/up')) {
    let n = 0;
    for await (const chunk of request.body) n += chunk.length;
    return json({ bytes: n });
  }
  return json({ hello: url.searchParams.get('name') || 'x' });
} };`},
}

// round is a cluster with a tenant and all models, and the peers, all of them
// started anew: a server that has run for an hour is slower than a fresh one.
type round struct {
	*cluster
	bare, workerd *peer
	targets       []target // bare first, workerd, then ours
}

// newRound starts them. With workerd false there is only bare to compare to.
func newRound(ctx context.Context, workerd bool, wanted []model) (r *round, err error) {
	r = &round{}
	defer func() {
		if err != nil {
			r.close(err)
		}
	}()
	if r.cluster, err = newCluster(ctx); err != nil {
		return r, err
	}
	if r.bare, err = startBare(ctx, r.image); err != nil {
		return r, err
	}
	r.targets = append(r.targets, r.bare.target)
	if workerd {
		if r.workerd, err = startWorkerd(ctx); err != nil {
			return r, err
		}
		r.targets = append(r.targets, r.workerd.target)
	}
	for i, m := range wanted {
		// A tenant for each: only one function's process has a share of the CPU.
		tenant := string(rune('a' + i))
		if err = r.register(ctx, tenant, roomy); err == nil {
			err = r.deploy(ctx, tenant, "f", m.file, m.code)
		}
		if err != nil {
			return r, err
		}
		t := r.function(tenant, "f")
		t.name = "bulkhead, `" + m.name + "`"
		if _, err = t.until(ctx, time.Now(), helloX); err != nil {
			return r, err
		}
		r.targets = append(r.targets, t)
	}
	return r, r.rest(ctx)
}

func (r *round) close(why error) {
	if r.bare != nil {
		r.bare.close()
	}
	if r.workerd != nil {
		r.workerd.close()
	}
	if r.cluster != nil {
		r.cluster.close(why)
	}
}
