'use strict';
// export default { fetch(request, env, ctx) }: web-standard Request and
// Response. Those that a handler commonly makes and reads are light classes
// of ours; whatever needs more (clone, formData, blob, streams as bodies of a
// Request made by the code) is handed to Node's own, loaded when first needed.

const P = require('./primordials.js');
const { served } = require('./invocation.js');
const { Context } = require('./context.js');
const { Headers, flatOf } = require('./headers.js');
const { pump } = require('./webstreams.js');
const { BODY, NATIVE, native, isLight } = require('./web-body.js');
const { Request, fromInvocation } = require('./web-request.js');
const { Response, isBodyless } = require('./web-response.js');

/** The fetch model: { invoke, parses } for an object with a fetch method. */
function model(handler) {
  const env = P.freeze(P.assign({}, served.secrets));
  return {
    parses: false,
    invoke(inv) {
      const result = handler.fetch(fromInvocation(inv), env, new FetchContext(inv));
      if (result instanceof Response) { reply(inv, result); return; }
      P.then(P.Promise.resolve(result), (r) => reply(inv, r), (e) => inv.fail(e, 500, 'Script generated an unhandled promise rejection.', 'exception'));
    },
  };
}

class FetchContext extends Context {
  #pending = [];
  /** Keeps a promise's failure from being nobody's. */
  waitUntil(promise) { this.#pending[this.#pending.length] = P.Promise.resolve(promise).catch((e) => { console.error(e); }); }
  passThroughOnException() {}
}

/** Sends what fetch() gave. */
function reply(inv, r) {
  if (inv.done) return;
  if (r === null || typeof r !== 'object' || typeof r.status !== 'number' || r.headers === undefined) {
    inv.fail(new P.TypeError('fetch() must return a Response'), 500, 'Script returned something else than a Response.', 'bad_result');
    return;
  }
  inv.done = true;
  const light = typeof r[BODY] === 'function', state = light ? r[BODY]() : null;
  if (r.bodyUsed) {
    inv.done = false;
    inv.fail(new P.TypeError('the Response\'s body has been used already'), 500, 'Script returned a used Response.', 'bad_result');
    return;
  }
  const headers = sendable(light ? flatOf(r.headers) : flatten(r.headers), light);
  const body = light && typeof state.kind !== 'function' ? state.kind : r.body;
  if (light) state.used = true;
  if (body === null || typeof body === 'string' || body instanceof P.Uint8Array) {
    if (!isBodyless(r.status) && (body !== null || !inv.isHead)) {
      headers[headers.length] = 'content-length';
      headers[headers.length] = `${body === null ? 0 : typeof body === 'string' ? P.byteLength(body) : body.length}`;
    }
    inv.respond(r.status, '', headers, inv.isHead ? null : body, true);
    return;
  }
  inv.respond(r.status, '', headers, null, inv.isHead);
  if (inv.isHead) body.cancel().catch(() => {}); else pump(inv, body);
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

/** Puts our classes, and a fetch() that takes them, where code looks. */
function install() {
  const put = (name, value) => P.defineProperty(globalThis, name, { __proto__: null, configurable: true, writable: true, enumerable: false, value });
  put('Headers', Headers);
  put('Request', Request);
  put('Response', Response);
  put('fetch', function fetch(input, init) {
    return native().fetch(isLight(input) ? input[NATIVE]() : input, init);
  });
}

module.exports = { model, install };
