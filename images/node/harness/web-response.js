'use strict';
// The Response that fetch() returns: cheap to make of text or bytes, Node's
// own behind it for anything else.

const P = require('./primordials.js');
const { Headers } = require('./headers.js');
const { Body, WithBody, BODY, NATIVE, native } = require('./web-body.js');

const NULL_BODY = new P.Set([101, 204, 205, 304]);
const has = P.uncurry(P.Set.prototype.has);

/** Whether a response of this status has no body (Fetch standard). */
function isBodyless(status) { return has(NULL_BODY, status); }

class Response extends WithBody {
  #status = 200;
  #statusText = '';
  #headers;
  #init;
  #native;
  #stream;

  constructor(body, init) {
    super();
    const state = new Body(null);
    this[BODY](state);
    if (init !== undefined && init !== null) {
      if (init.status !== undefined) this.#status = checkStatus(init.status);
      if (init.statusText !== undefined) this.#statusText = `${init.statusText}`;
      this.#init = init.headers;
    }
    if (body === undefined || body === null) return;
    if (isBodyless(this.#status)) throw new P.TypeError(`Response: a response of status ${this.#status} has no body`);
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

module.exports = { Response, isBodyless };
