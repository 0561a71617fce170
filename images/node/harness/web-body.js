'use strict';
// What our Request and Response share: a body that is nothing, text, bytes or
// a stream, and can be used once (Fetch standard, section 2.2.4). None of it
// needs undici, which would cost every process 7 MB and 40 ms: only fetch()
// and formData() load it, when code calls them.

const { isDisturbed } = require('node:stream');
const P = require('./primordials.js');

const BODY = Symbol('body'); // [BODY]() is a body's state, [BODY](state) sets it
const FORM = 'application/x-www-form-urlencoded;charset=UTF-8', TEXT = 'text/plain;charset=UTF-8';
const Params = URLSearchParams, EMPTY = P.alloc(0);
const nodeFetch = Object.getOwnPropertyDescriptor(globalThis, 'fetch').value;

/** Node's own fetch, and its Response class once something has loaded it. */
const native = {
  Response: null,
  async fetch(input, init) {
    const r = await nodeFetch(input, init);
    native.Response ??= r.constructor;
    return r;
  },
};

/** A body: kind is null, a string, bytes, a ReadableStream, or a function that
 * makes one; type is the content-type that it asks for, or ''. */
class Body {
  constructor(kind, type) { this.kind = kind; this.type = type; this.used = false; }
}

/** The body that an init's value means. */
function extract(v) {
  if (v === undefined || v === null) return new Body(null, '');
  if (typeof v !== 'object') return new Body(`${v}`, TEXT);
  if (P.isView(v)) return new Body(new P.Uint8Array(P.from(v.buffer, v.byteOffset, v.byteLength)), '');
  if (v instanceof ArrayBuffer || v instanceof SharedArrayBuffer) return new Body(new P.Uint8Array(P.from(v)), '');
  if (v instanceof Params) return new Body(`${v}`, FORM);
  if (typeof v.getReader === 'function') {
    if (v.locked) throw new P.TypeError('the body is a stream that is locked');
    return new Body(v, '');
  }
  if (v[Symbol.toStringTag] === 'FormData') return multipart(v);
  if (typeof v.stream === 'function') return new Body(() => v.stream(), v.type ?? '');
  if (typeof v[Symbol.asyncIterator] === 'function') return new Body(() => ReadableStream.from(v), '');
  return new Body(`${v}`, TEXT);
}

/** FormData as multipart/form-data (RFC 7578). */
function multipart(form) {
  const boundary = `----bulkhead${require('node:crypto').randomBytes(12).toString('hex')}`;
  const escape = (s) => s.replace(/\r\n|\r|\n/g, '%0D%0A').replace(/"/g, '%22');
  async function* parts() {
    for (const [name, value] of form) {
      let head = `--${boundary}\r\ncontent-disposition: form-data; name="${escape(name)}"`;
      if (typeof value === 'string') { yield P.from(`${head}\r\n\r\n${value.replace(/\r\n|\r|\n/g, '\r\n')}\r\n`); continue; }
      head += `; filename="${escape(value.name ?? 'blob')}"\r\ncontent-type: ${value.type || 'application/octet-stream'}`;
      yield P.from(`${head}\r\n\r\n`);
      yield* value.stream();
      yield P.from('\r\n');
    }
    yield P.from(`--${boundary}--\r\n`);
  }
  return new Body(() => ReadableStream.from(parts()), `multipart/form-data; boundary=${boundary}`);
}

/** The body's stream; from then on it is a stream for good. */
function streamOf(state) {
  if (state.kind === null) return null;
  if (typeof state.kind === 'function') state.kind = state.kind();
  else if (!isStream(state.kind)) {
    const bytes = state.used ? EMPTY : typeof state.kind === 'string' ? P.from(state.kind) : state.kind;
    state.kind = new ReadableStream({ start(c) { if (bytes.length !== 0) c.enqueue(new P.Uint8Array(bytes)); c.close(); } });
  }
  return state.kind;
}

function isStream(kind) { return kind !== null && typeof kind === 'object' && !(kind instanceof P.Uint8Array); }

function isUsed(state) { return state.used || isStream(state.kind) && (state.kind.locked === true || isDisturbed(state.kind)); }

/** Uses the body up; text stays text. */
async function consume(state) {
  if (isUsed(state)) throw new P.TypeError('the body has been used already');
  const { kind } = state;
  if (kind === null) return '';
  state.used = true;
  if (typeof kind === 'string' || kind instanceof P.Uint8Array) return kind;
  const chunks = [];
  for await (const chunk of streamOf(state)) {
    if (!P.isView(chunk)) throw new P.TypeError('the body is a stream of something else than bytes');
    chunks[chunks.length] = chunk;
  }
  return P.concat(chunks);
}

/** A second body with the same content; both can be used. */
function cloneBody(state) {
  if (isUsed(state)) throw new P.TypeError('clone(): the body has been used already');
  if (typeof state.kind === 'function') streamOf(state);
  if (!isStream(state.kind)) return new Body(state.kind, state.type);
  const [a, b] = state.kind.tee();
  state.kind = a;
  return new Body(b, state.type);
}

class WithBody {
  #state;
  [BODY](set) { if (set !== undefined) this.#state = set; return this.#state; }

  get body() { return streamOf(this[BODY]()); }
  get bodyUsed() { return isUsed(this[BODY]()); }

  async text() {
    const b = await consume(this[BODY]());
    if (typeof b === 'string') return b;
    const from = b.length > 2 && b[0] === 0xef && b[1] === 0xbb && b[2] === 0xbf ? 3 : 0; // a byte order mark
    return P.utf8Slice(b, from, b.length);
  }

  async json() { return P.parse(await this.text()); }
  async bytes() { return new P.Uint8Array(await this.#buffer()); }
  async arrayBuffer() { return (await this.bytes()).buffer; }
  async blob() { return new Blob([await this.#buffer()], { type: this.headers.get('content-type') ?? '' }); }

  async formData() {
    if (native.Response === null) await native.fetch('data:,');
    return new native.Response(await this.#buffer(), { headers: { 'content-type': this.headers.get('content-type') ?? '' } }).formData();
  }

  async #buffer() {
    const b = await consume(this[BODY]());
    return typeof b === 'string' ? P.from(b) : b;
  }
}

module.exports = { Body, WithBody, BODY, extract, cloneBody, streamOf, isStream, isUsed, native };
