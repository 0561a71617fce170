'use strict';
// The Response that fetch() returns: cheap to make of text or bytes, and of
// anything else that the standard allows.

const P = require('./primordials.js');
const { Headers } = require('./headers.js');
const { WithBody, BODY, extract, cloneBody, native } = require('./web-body.js');

const NULL_BODY = new P.Set([101, 204, 205, 304]);
const has = P.uncurry(P.Set.prototype.has);

/** Whether a response of this status has no body (Fetch standard). */
function isBodyless(status) { return has(NULL_BODY, status); }

class Response extends WithBody {
  #status = 200;
  #statusText = '';
  #headers;
  #init;
  #type = 'default';

  constructor(body, init) {
    super();
    if (init !== undefined && init !== null) {
      if (init.status !== undefined) this.#status = checkStatus(init.status);
      if (init.statusText !== undefined) this.#statusText = `${init.statusText}`;
      this.#init = init.headers;
    }
    this[BODY](extract(body));
    if (body !== undefined && body !== null && isBodyless(this.#status)) throw new P.TypeError(`Response: a response of status ${this.#status} has no body`);
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

  static error() {
    const r = new Response();
    r.#status = 0;
    r.#type = 'error';
    return r;
  }

  static [Symbol.hasInstance](v) {
    return v !== null && typeof v === 'object' && (#status in v || native.Response !== null && v instanceof native.Response);
  }

  get status() { return this.#status; }
  get statusText() { return this.#statusText; }
  get ok() { return this.#status >= 200 && this.#status <= 299; }
  get type() { return this.#type; }
  get url() { return ''; }
  get redirected() { return false; }
  get [Symbol.toStringTag]() { return 'Response'; }

  get headers() {
    if (this.#headers !== undefined) return this.#headers;
    const h = this.#headers = new Headers(this.#init), { type } = this[BODY]();
    if (type !== '' && !h.has('content-type')) h.set('content-type', type);
    return h;
  }

  clone() {
    const twin = new Response(null, { status: this.#status || 200, statusText: this.#statusText, headers: this.headers });
    twin[BODY](cloneBody(this[BODY]()));
    return twin;
  }
}

function checkStatus(v) {
  const n = +v;
  if (!(n >= 200 && n <= 599)) throw new RangeError(`Response: status ${v} is outside 200 to 599`);
  return n >>> 0;
}

module.exports = { Response, isBodyless };
