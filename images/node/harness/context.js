'use strict';
// ctx, Webtask's view of a request. Every part is worked out when it is first
// asked for, and may be overwritten by the code, as on a plain object.

const querystring = require('node:querystring');
const P = require('./primordials.js');
const C = require('./codec.js');
const { served } = require('./invocation.js');
const { waitUntil } = require('./background.js');

const { FIELD } = C;
const { parse: parseForm, unescape } = querystring;

class Context {
  #inv;
  #id; #headers; #query; #params; #secrets; #meta; #claims; #token; #data; #parsed;

  constructor(inv) { this.#inv = inv; }

  get id() { return this.#id ??= this.#inv.requestId; }
  get headers() { return this.#headers ??= headersOf(this.#inv); }
  get query() { return this.#query ??= queryOf(this.#inv); }
  get params() { return this.#params ??= paramsOf(this.#inv); }
  get secrets() { return this.#secrets ??= P.assign({}, served.secrets, ownSecrets(this.#inv)); }
  get meta() { return this.#meta ??= P.assign({}, served.meta); }
  get claims() { return this.#claims ??= json(this.#inv.field(FIELD.claims)) ?? {}; }
  get token() { return this.#token ??= tokenOf(this.#inv); }
  get body() { return (this.#parsed ??= bodyOf(this.#inv)).body; }
  get body_raw() { return (this.#parsed ??= bodyOf(this.#inv)).raw; }

  get data() {
    if (this.#data !== undefined) return this.#data;
    const merge = json(this.#inv.field(FIELD.claims))?.mb ? this.body : undefined;
    return this.#data = P.assign({}, this.query, this.params, isPlain(merge) ? merge : undefined, served.secrets, ownSecrets(this.#inv));
  }

  /** Work that goes on after the answer: the process waits for promise, for at
   * most limits.background. */
  waitUntil(promise) { waitUntil(this.#inv, promise); }

  set id(v) { this.#id = v; }
  set headers(v) { this.#headers = v; }
  set query(v) { this.#query = v; }
  set params(v) { this.#params = v; }
  set secrets(v) { this.#secrets = v; }
  set meta(v) { this.#meta = v; }
  set claims(v) { this.#claims = v; }
  set token(v) { this.#token = v; }
  set data(v) { this.#data = v; }
  set body(v) { (this.#parsed ??= bodyOf(this.#inv)).body = v; }
  set body_raw(v) { (this.#parsed ??= bodyOf(this.#inv)).raw = v; }

  toJSON() {
    const { id, headers, query, params, meta, data, body } = this;
    return { id, headers, query, params, meta, data, body };
  }
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
  const target = inv.target, out = {};
  let at = P.indexOf(target, '?') + 1;
  while (at > 0 && at < target.length) {
    let end = P.indexOf(target, '&', at), eq = P.indexOf(target, '=', at);
    if (end < 0) end = target.length;
    if (eq < 0 || eq > end) eq = end;
    if (end !== at) add(out, decode(P.slice(target, at, eq)), decode(P.slice(target, eq + 1, end)));
    at = end + 1;
  }
  return out;
}

function add(out, name, value) {
  if (P.startsWith(name, 'webtask_') || name === '__proto__') return;
  if (!P.hasOwn(out, name)) out[name] = value;
  else if (P.isArray(out[name])) out[name][out[name].length] = value;
  else out[name] = [out[name], value];
}

function decode(s) {
  if (P.indexOf(s, '+') >= 0) s = P.replace(s, /\+/g, ' ');
  return P.indexOf(s, '%') < 0 ? s : unescape(s);
}

/** Secrets that came sealed in the token, undefined if none did. */
function ownSecrets(inv) {
  const secrets = json(inv.field(FIELD.secrets));
  return isPlain(secrets) ? secrets : undefined;
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
function bodyOf(inv) {
  const bytes = inv.raw, type = inv.header('content-type') ?? '';
  if (bytes === null || bytes.length === 0) return { body: undefined, raw: undefined };
  if (P.test(JSON_RE, type)) {
    const raw = P.utf8Slice(bytes, 0, bytes.length);
    return { body: json(raw), raw };
  }
  if (P.test(FORM_RE, type)) {
    const raw = P.utf8Slice(bytes, 0, bytes.length);
    return { body: P.assign({}, parseForm(raw)), raw };
  }
  return { body: undefined, raw: P.test(TEXT_RE, type) ? P.utf8Slice(bytes, 0, bytes.length) : P.from(bytes) };
}

module.exports = { Context, headersOf, ownSecrets };
