'use strict';
// What our Request and Response share: a body that is nothing, text, bytes or
// a stream, and can be used once. And Node's own classes, loaded when first
// needed, since undici costs 57 ms.

const P = require('./primordials.js');

const BODY = Symbol('body');     // [BODY]() is a body's state, [BODY](state) sets it
const NATIVE = Symbol('native'); // [NATIVE]() is the same as an object of Node's own
const native = lazyNative();

/** kind is null, text, bytes, or a function that gives a ReadableStream. */
class Body {
  constructor(kind) { this.kind = kind; this.used = false; }
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

/** Whether v is a Request or Response of ours. */
function isLight(v) { return v !== null && typeof v === 'object' && typeof v[NATIVE] === 'function'; }

module.exports = { Body, WithBody, BODY, NATIVE, native, isLight };
