'use strict';
// ctx, Webtask's view of a request. Every part is worked out when it is first
// asked for, and may be overwritten by the code, as on a plain object.

const querystring = require('node:querystring');
const P = require('./primordials.js');
const C = require('./codec.js');
const { served } = require('./invocation.js');

const { FIELD } = C;
const parseQuery = querystring.parse;

class Context {
  #inv;
  #body;

  constructor(inv) {
    this.#inv = inv;
  }

  get id() { return set(this, 'id', this.#inv.requestId); }
  get headers() { return set(this, 'headers', headersOf(this.#inv)); }
  get query() { return set(this, 'query', queryOf(this.#inv)); }
  get params() { return set(this, 'params', paramsOf(this.#inv)); }
  get secrets() { return set(this, 'secrets', P.assign({}, served.secrets)); }
  get meta() { return set(this, 'meta', P.assign({}, served.meta)); }
  get claims() { return set(this, 'claims', json(this.#inv.field(FIELD.claims)) ?? {}); }
  get token() { return set(this, 'token', tokenOf(this.#inv)); }

  get data() {
    const merge = json(this.#inv.field(FIELD.claims))?.mb ? this.body : undefined;
    const data = P.assign({}, this.query, this.params, isPlain(merge) ? merge : undefined, served.secrets);
    return set(this, 'data', data);
  }

  get body() { return set(this, 'body', this.#parsed().body); }
  get body_raw() { return set(this, 'body_raw', this.#parsed().raw); }

  #parsed() {
    return this.#body ??= parseBody(this.#inv.raw, this.#inv.header('content-type'));
  }

  set id(v) { set(this, 'id', v); }
  set headers(v) { set(this, 'headers', v); }
  set query(v) { set(this, 'query', v); }
  set params(v) { set(this, 'params', v); }
  set secrets(v) { set(this, 'secrets', v); }
  set meta(v) { set(this, 'meta', v); }
  set claims(v) { set(this, 'claims', v); }
  set token(v) { set(this, 'token', v); }
  set data(v) { set(this, 'data', v); }
  set body(v) { set(this, 'body', v); }
  set body_raw(v) { set(this, 'body_raw', v); }
}

const wanted = P.freeze({ __proto__: null, enumerable: true, configurable: true, writable: true });
function set(ctx, name, value) {
  P.defineProperty(ctx, name, { __proto__: wanted, value });
  return value;
}

/** Headers as node:http would show them: one value a name, cookies apart. */
function headersOf(inv) {
  const flat = C.readHeaders(inv.buf, inv.headersAt), out = {};
  for (let i = 0; i < flat.length; i += 2) {
    const name = flat[i], value = flat[i + 1];
    if (!P.hasOwn(out, name)) out[name] = value;
    else out[name] += (name === 'cookie' ? '; ' : ', ') + value;
  }
  if (!P.hasOwn(out, 'host')) {
    const host = inv.field(FIELD.authority);
    if (host !== undefined) out.host = host;
  }
  return out;
}

function queryOf(inv) {
  const target = inv.target, at = P.indexOf(target, '?');
  if (at < 0) return {};
  const parsed = parseQuery(P.slice(target, at + 1)), names = P.keys(parsed), out = {};
  for (let i = 0; i < names.length; i++) {
    const name = names[i];
    if (P.startsWith(name, 'webtask_')) continue;
    if (name === '__proto__') P.defineProperty(out, name, { __proto__: wanted, value: parsed[name] });
    else out[name] = parsed[name];
  }
  return out;
}

function paramsOf(inv) {
  const params = json(inv.field(FIELD.params));
  return isPlain(params) ? params : {};
}

function tokenOf(inv) {
  const auth = inv.header('authorization');
  if (auth !== undefined && P.startsWith(P.toLowerCase(auth), 'bearer ')) return P.slice(auth, 7);
  return undefined;
}

function isPlain(v) { return v !== null && typeof v === 'object' && !P.isArray(v); }

function json(s) {
  if (s === undefined) return undefined;
  try { return P.parse(s); } catch { return undefined; }
}

const JSON_RE = /^application\/(?:[\w.+-]*\+)?json\b/i, FORM_RE = /^application\/x-www-form-urlencoded\b/i, TEXT_RE = /^text\//i;

/** A body as ctx shows it: raw is text where the type says so, else the very
 * bytes; body is there only when the type is known and the text is right. */
function parseBody(bytes, type) {
  if (bytes === null || bytes.length === 0) return { body: undefined, raw: undefined };
  type ??= '';
  if (P.test(JSON_RE, type)) {
    const raw = P.utf8Slice(bytes, 0, bytes.length);
    return { body: json(raw), raw };
  }
  if (P.test(FORM_RE, type)) {
    const raw = P.utf8Slice(bytes, 0, bytes.length);
    return { body: P.assign({}, parseQuery(raw)), raw };
  }
  return { body: undefined, raw: P.test(TEXT_RE, type) ? P.utf8Slice(bytes, 0, bytes.length) : P.from(bytes) };
}

module.exports = { Context, headersOf };
