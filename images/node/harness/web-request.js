'use strict';
// Request: the one that fetch(request) is called with, read from the frames
// as far as it is asked for, and those that code makes to call others.

const P = require('./primordials.js');
const C = require('./codec.js');
const { Headers, make: makeHeaders } = require('./headers.js');
const { requestStream } = require('./webstreams.js');
const { Body, WithBody, BODY, extract, cloneBody } = require('./web-body.js');

const { FIELD } = C;
const upper = P.uncurry(String.prototype.toUpperCase);
const NORMAL = /^(delete|get|head|options|post|put)$/i, METHOD = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

// What else a Request has; only fetch() does something with it.
const OPTIONS = { redirect: 'follow', cache: 'default', credentials: 'same-origin', integrity: '', keepalive: false, mode: 'cors', referrer: 'about:client', referrerPolicy: '' };

class Request extends WithBody {
  #inv = null;
  #method;
  #url;
  #headers;
  #signal;
  #options = OPTIONS;

  constructor(input, init = {}) {
    super();
    if (input === BODY) { this.#inv = init; return; }
    const from = input !== null && typeof input === 'object' && typeof input.method === 'string' ? input : null;
    this.#url = new URL(from === null ? `${input}` : from.url).href;
    this.#method = methodOf(init.method ?? from?.method ?? 'GET');
    this.#headers = new Headers(init.headers ?? from?.headers);
    this.#signal = init.signal ?? from?.signal;
    this.#options = P.create(OPTIONS);
    for (const name of P.keys(OPTIONS)) {
      const value = init[name] ?? from?.[name];
      if (value !== undefined) this.#options[name] = value;
    }
    this.#takeBody(from, init.body);
  }

  #takeBody(from, body) {
    const state = body === undefined && from !== null && from.body !== null ? new Body(from.body, '') : extract(body);
    if (state.kind !== null && (this.#method === 'GET' || this.#method === 'HEAD')) throw new P.TypeError(`Request: ${this.#method} has no body`);
    if (state.type !== '' && !this.#headers.has('content-type')) this.#headers.set('content-type', state.type);
    this[BODY](state);
  }

  static [Symbol.hasInstance](v) { return v !== null && typeof v === 'object' && (#inv in v || v[Symbol.toStringTag] === 'Request'); }

  get method() { return this.#method ??= this.#inv.method; }
  get url() { return this.#url ??= urlOf(this.#inv); }
  get headers() { return this.#headers ??= headersOf(this.#inv); }
  get signal() { return this.#signal ??= this.#inv === null ? new AbortController().signal : this.#inv.signal; }
  get destination() { return ''; }
  get duplex() { return 'half'; }
  get [Symbol.toStringTag]() { return 'Request'; }

  clone() {
    const twin = new Request(this.url, { method: this.method, headers: this.headers, signal: this.#signal, ...this.#options });
    twin[BODY](cloneBody(this[BODY]()));
    return twin;
  }

  [BODY](set) { return super[BODY](set) ?? super[BODY](bodyOf(this.#inv)); }

  static {
    for (const name of P.keys(OPTIONS)) {
      P.defineProperty(Request.prototype, name, { __proto__: null, configurable: true, enumerable: true, get() { return this.#options[name]; } });
    }
  }

  /** This request as arguments for Node's own fetch(). */
  static args(r, init) {
    const body = r.method === 'GET' || r.method === 'HEAD' ? undefined : r.body ?? undefined;
    return [r.url, { ...r.#options, method: r.method, headers: [...r.headers], signal: r.#signal, body, duplex: 'half', ...init }];
  }
}


function methodOf(v) {
  const method = `${v}`;
  if (!P.test(METHOD, method)) throw new P.TypeError(`Request: ${P.stringify(method)} is not a method`);
  return P.test(NORMAL, method) ? upper(method) : method;
}

/** The Request of an invocation. */
function fromInvocation(inv) { return new Request(BODY, inv); }

function bodyOf(inv) {
  if (inv.inEnded && inv.early === null || inv.upgrades) return new Body(inv.first, '');
  return new Body(() => requestStream(inv), '');
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

const { args } = Request;
delete Request.args;

module.exports = { Request, fromInvocation, args };
