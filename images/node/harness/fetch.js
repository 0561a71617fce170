'use strict';
// export default { fetch(request, env, ctx) }: web-standard Request and
// Response. Those that a handler commonly makes and reads are light classes
// of ours; whatever needs more (clone, formData, blob, streams as bodies of a
// Request made by the code) is handed to Node's own, loaded when first needed.

const P = require('./primordials.js');
const C = require('./codec.js');
const { served } = require('./invocation.js');
const { Context } = require('./context.js');
const { Headers, make: makeHeaders, flatOf } = require('./headers.js');
const { requestStream, pump } = require('./webstreams.js');

const { FIELD } = C;
const native = lazyNative();
const STATUS_NULL_BODY = new P.Set([101, 204, 205, 304]);
const hasStatus = P.uncurry(P.Set.prototype.has);

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

// Bodies: null, text, bytes, or a stream; each can be used once.

class Body {
  constructor() { this.kind = null; this.used = false; }
}

async function bytesOf(owner, what) {
  const state = owner[BODY](), kind = state.kind;
  if (state.used) throw new P.TypeError(`${what}: the body has been used already`);
  if (kind !== null) state.used = true;
  if (kind === null) return P.alloc(0);
  if (typeof kind === 'string') return P.from(kind);
  if (kind instanceof P.Uint8Array) return kind;
  const chunks = [];
  for await (const chunk of kind()) chunks[chunks.length] = chunk;
  return chunks.length === 1 ? chunks[0] : P.concat(chunks);
}

const BODY = Symbol('body');

class WithBody {
  #state;
  [BODY](set) { if (set !== undefined) this.#state = set; return this.#state; }
  get bodyUsed() { return this.#state.used; }

  async text() {
    const state = this[BODY](), { kind } = state;
    if (typeof kind === 'string' && !state.used) { state.used = true; return kind; }
    const b = await bytesOf(this, 'text()');
    const from = b.length > 2 && b[0] === 0xef && b[1] === 0xbb && b[2] === 0xbf ? 3 : 0;
    return P.utf8Slice(b, from, b.length);
  }

  async json() { return P.parse(await this.text()); }
  async bytes() { return new P.Uint8Array(await bytesOf(this, 'bytes()')); }
  async arrayBuffer() { const b = await bytesOf(this, 'arrayBuffer()'); return b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength); }
  async blob() { return this[NATIVE]().blob(); }
  async formData() { return this[NATIVE]().formData(); }
}

const NATIVE = Symbol('native');

// Request.

class Request extends WithBody {
  #inv = null;
  #headers;
  #url;
  #native = null; // once made, it owns the body
  #stream;

  constructor(input, init) {
    super();
    if (input === BODY) { this.#inv = init; return; }
    return new (native().Request)(isLight(input) ? input[NATIVE]() : input, init);
  }

  static [Symbol.hasInstance](v) { return v !== null && typeof v === 'object' && (#inv in v || v instanceof native.loaded().Request); }

  get method() { return this.#inv.method; }
  get url() { return this.#url ??= urlOf(this.#inv); }
  get headers() { return this.#headers ??= headersOf(this.#inv); }
  get signal() { return this[NATIVE]().signal; }
  get [Symbol.toStringTag]() { return 'Request'; }

  get body() {
    if (this.#native !== null) return this.#native.body;
    const state = this[BODY]();
    return state.kind === null ? null : this.#stream ??= requestStream(this.#inv, state);
  }

  get bodyUsed() {
    if (this.#native !== null) return this.#native.bodyUsed;
    return this.#stream === undefined ? this[BODY]().used : this.#stream.locked;
  }

  clone() { return this[NATIVE]().clone(); }
  text() { return this.#read('text', super.text); }
  json() { return this.#read('json', super.json); }
  bytes() { return this.#read('bytes', super.bytes); }
  arrayBuffer() { return this.#read('arrayBuffer', super.arrayBuffer); }

  #read(how, light) {
    return this.#native === null && this.#stream === undefined ? light.call(this) : this[NATIVE]()[how]();
  }

  [BODY](set) { return super[BODY](set) ?? super[BODY](bodyState(this.#inv)); }

  /** This request as Node's own Request, which takes the body over. */
  [NATIVE]() {
    if (this.#native !== null) return this.#native;
    const bodyless = this.method === 'GET' || this.method === 'HEAD';
    const init = { method: this.method, headers: [...this.headers], duplex: 'half', body: bodyless ? undefined : this.body };
    return this.#native = new (native().Request)(this.url, init);
  }
}

// What these say of a request that a server got never changes.
for (const [name, value] of Object.entries({ redirect: 'follow', cache: 'default', credentials: 'same-origin', destination: '', integrity: '', keepalive: false, mode: 'cors', referrer: 'about:client', referrerPolicy: '', duplex: 'half' })) {
  P.defineProperty(Request.prototype, name, { __proto__: null, configurable: true, enumerable: true, get: () => value });
}

function isLight(v) { return v !== null && typeof v === 'object' && typeof v[NATIVE] === 'function'; }

function fromInvocation(inv) { return new Request(BODY, inv); }

function bodyState(inv) {
  const state = new Body();
  if (!inv.inEnded || inv.request !== null) state.kind = () => requestStream(inv, state);
  else if (inv.first !== null) state.kind = inv.first;
  return state;
}

function urlOf(inv) {
  return `${inv.field(FIELD.scheme) ?? 'http'}://${inv.field(FIELD.authority) ?? inv.header('host') ?? 'localhost'}${inv.target}`;
}

function headersOf(inv) {
  const flat = C.readHeaders(inv.buf, inv.headersAt);
  if (inv.header('host') === undefined) {
    const host = inv.field(FIELD.authority);
    if (host !== undefined) { flat[flat.length] = 'host'; flat[flat.length] = host; }
  }
  return makeHeaders(flat);
}

// Response.

class Response extends WithBody {
  #status = 200;
  #statusText = '';
  #headers;
  #init;
  #native;
  #stream;

  constructor(body, init) {
    super();
    const state = new Body();
    this[BODY](state);
    if (init !== undefined && init !== null) {
      if (init.status !== undefined) this.#status = checkStatus(init.status);
      if (init.statusText !== undefined) this.#statusText = `${init.statusText}`;
      this.#init = init.headers;
    }
    if (body === undefined || body === null) return;
    if (hasStatus(STATUS_NULL_BODY, this.#status)) throw new P.TypeError(`Response: a response of status ${this.#status} has no body`);
    if (typeof body !== 'object') state.kind = `${body}`;
    else if (body instanceof P.Uint8Array) state.kind = body.slice();
    else if (P.isView(body)) state.kind = P.from(body.buffer, body.byteOffset, body.byteLength).slice();
    else {
      this.#native = new (native().Response)(body);
      state.kind = () => this.#native.body;
    }
  }

  static json(value, init) {
    const text = P.stringify(value);
    if (text === undefined) throw new P.TypeError('Response.json: the value cannot be sent as JSON');
    const headers = new Headers(init?.headers);
    if (!headers.has('content-type')) headers.set('content-type', 'application/json');
    return new Response(text, { status: init?.status, statusText: init?.statusText, headers });
  }

  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`Response.redirect: status ${status} is no redirection`);
    return new Response(null, { status, headers: { location: new URL(url).href } });
  }

  static error() { return native().Response.error(); }
  static [Symbol.hasInstance](v) { return v !== null && typeof v === 'object' && (#status in v || v instanceof native.loaded().Response); }

  get status() { return this.#status; }
  get statusText() { return this.#statusText; }
  get ok() { return this.#status >= 200 && this.#status <= 299; }
  get type() { return 'default'; }
  get url() { return ''; }
  get redirected() { return false; }
  get [Symbol.toStringTag]() { return 'Response'; }

  get headers() {
    if (this.#headers !== undefined) return this.#headers;
    const h = this.#headers = new Headers(this.#init), { kind } = this[BODY]();
    if (!h.has('content-type')) {
      const type = typeof kind === 'string' ? 'text/plain;charset=UTF-8' : this.#native?.headers.get('content-type');
      if (type) h.set('content-type', type);
    }
    return h;
  }

  get body() {
    const state = this[BODY]();
    if (state.kind === null) return null;
    return this.#stream ??= typeof state.kind === 'function' ? state.kind() : new Blob([state.kind]).stream();
  }

  get bodyUsed() { return this[BODY]().used || this.#stream !== undefined && this.#stream.locked; }

  clone() {
    const state = this[BODY]();
    if (this.bodyUsed) throw new P.TypeError('clone(): the body has been used already');
    const twin = new Response(null, { status: this.#status, statusText: this.#statusText, headers: this.headers });
    if (typeof state.kind !== 'function') { twin[BODY]().kind = state.kind; return twin; }
    const [a, b] = state.kind().tee();
    state.kind = () => a;
    twin[BODY]().kind = () => b;
    this.#stream = undefined;
    return twin;
  }

  [NATIVE]() { return new (native().Response)(this.body, { status: this.#status, headers: [...this.headers] }); }
}

function checkStatus(v) {
  const n = +v;
  if (!(n >= 200 && n <= 599) && n !== 101) throw new RangeError(`Response: status ${v} is outside 200 to 599`);
  return n >>> 0;
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
    if (!hasStatus(STATUS_NULL_BODY, r.status)) {
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

// Node's own classes, and the globals.

function lazyNative() {
  const d = (name) => Object.getOwnPropertyDescriptor(globalThis, name);
  const request = d('Request'), response = d('Response'), fetch = d('fetch');
  let classes = null;
  const get = (p) => (p.get === undefined ? p.value : p.get.call(globalThis));
  const load = () => classes ??= { Request: get(request), Response: get(response), fetch: get(fetch) };
  load.loaded = () => classes ?? { Request: Never, Response: Never };
  return load;
}
function Never() {}

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
