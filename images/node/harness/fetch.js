'use strict';
// export default { fetch(request, env, ctx) }: web-standard Request and
// Response, as light classes of ours. Node's own come into play only through
// fetch(), and what it gives is as good an answer as ours.

const P = require('./primordials.js');
const { served } = require('./invocation.js');
const { fetchCalled } = require('./waits.js');
const { Context, ownSecrets } = require('./context.js');
const { Headers, flatOf } = require('./headers.js');
const { pump } = require('./webstreams.js');
const { BODY, native, isStream, isUsed, streamOf } = require('./web-body.js');
const { Request, fromInvocation, args } = require('./web-request.js');
const { Response, isBodyless } = require('./web-response.js');

/** The fetch model: { invoke, parses } for an object with a fetch method. */
function model(handler) {
  const env = P.freeze(P.assign({}, served.secrets));
  return {
    parses: false,
    invoke(inv) {
      const own = ownSecrets(inv);
      const result = handler.fetch(fromInvocation(inv), own === undefined ? env : P.freeze(P.assign({}, env, own)), new FetchContext(inv));
      if (result instanceof Response) { reply(inv, result); return; }
      P.then(P.Promise.resolve(result), (r) => reply(inv, r), (e) => inv.fail(e, 500, 'Script generated an unhandled promise rejection.', 'exception'));
    },
  };
}

class FetchContext extends Context {
  passThroughOnException() {}
}

/** Sends what fetch() gave: a Response of ours or Node's. */
function reply(inv, r) {
  if (inv.done) return;
  const light = r !== null && typeof r === 'object' && typeof r[BODY] === 'function';
  const wrong = whyNot(r, light);
  if (wrong !== '') {
    inv.fail(new P.TypeError(`fetch() must return a Response that can be sent: ${wrong}`), 500, 'Script returned something else than a Response.', 'bad_result');
    return;
  }
  inv.done = true;
  try {
    send(inv, r, light);
  } catch (e) { // headers too large, or not Latin-1
    inv.done = false;
    inv.fail(e, 500, 'Script returned something else than a Response.', 'bad_result');
  }
}

function send(inv, r, light) {
  const state = light ? r[BODY]() : null, headers = sendable(light ? flatOf(r.headers) : flatten(r.headers), light);
  const whole = light && typeof state.kind !== 'function' && !isStream(state.kind);
  const body = whole ? state.kind : light ? streamOf(state) : r.body;
  if (light) state.used = true;
  if (whole || body === null) sendWhole(inv, r.status, headers, body);
  else {
    inv.respond(r.status, '', headers, null, inv.isHead);
    if (inv.isHead) body.cancel().catch(() => {}); else pump(inv, body);
  }
}

function whyNot(r, light) {
  if (r === null || typeof r !== 'object' || typeof r.status !== 'number' || r.headers === undefined) return 'it is none';
  if (!(r.status >= 200 && r.status <= 999)) return 'it has no status that a response can have';
  return (light ? isUsed(r[BODY]()) : r.bodyUsed) ? 'its body has been used already' : '';
}

function sendWhole(inv, status, headers, body) {
  if (!isBodyless(status) && (body !== null || !inv.isHead)) {
    headers[headers.length] = 'content-length';
    headers[headers.length] = `${body === null ? 0 : typeof body === 'string' ? P.byteLength(body) : body.length}`;
  }
  inv.respond(status, '', headers, inv.isHead ? null : body, true);
}

function flatten(headers) {
  const flat = [];
  for (const [name, value] of headers) { flat[flat.length] = name; flat[flat.length] = value; }
  return flat;
}

/** Drops what belongs to a hop. A length of the code's own survives only where
 * we don't set it, and a fetched response's encoding has been undone already. */
function sendable(flat, light) {
  const out = [];
  let n = 0;
  for (let i = 0; i < flat.length; i += 2) {
    const name = flat[i];
    if (name === 'content-length' || name === 'connection' || name === 'transfer-encoding' || name === 'keep-alive') continue;
    if (name === 'content-encoding' && !light) continue;
    out[n++] = name;
    out[n++] = flat[i + 1];
  }
  return out;
}

/** Puts our classes, and a fetch() that takes them, where code looks. To
 * delete Node's first keeps them from being loaded only to be replaced. */
function install() {
  const put = (name, value) => {
    delete globalThis[name];
    P.defineProperty(globalThis, name, { __proto__: null, configurable: true, writable: true, enumerable: false, value });
  };
  put('Headers', Headers);
  put('Request', Request);
  put('Response', Response);
  put('fetch', async function fetch(input, init) {
    fetchCalled(fetch);
    const own = input !== null && typeof input === 'object' && typeof input[BODY] === 'function';
    return own ? native.fetch(...args(input, init)) : native.fetch(input, init);
  });
}

module.exports = { model, install };
