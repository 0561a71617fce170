'use strict';
// The Request that fetch() is called with: everything is read from the frames
// when it is first asked for. What it cannot do it hands to Node's own.

const P = require('./primordials.js');
const C = require('./codec.js');
const { make: makeHeaders } = require('./headers.js');
const { requestStream } = require('./webstreams.js');
const { Body, WithBody, BODY, NATIVE, native, isLight } = require('./web-body.js');

const { FIELD } = C;

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

function fromInvocation(inv) { return new Request(BODY, inv); }

function bodyState(inv) {
  const state = new Body(null);
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

module.exports = { Request, fromInvocation };
