'use strict';
// Headers of the fetch standard, without undici: names are lower case, values
// are bytes as Latin-1, several values of a name are joined, cookies apart.

const P = require('./primordials.js');

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/, BAD_VALUE = /[\0\r\n]|[^\0-\xff]/;

class Headers {
  #flat = []; // name, value, name, value, … as they came

  constructor(init) {
    if (init === undefined || init === null) return;
    if (typeof init !== 'object') throw new P.TypeError('Headers: cannot be made from a primitive value');
    if (#flat in init) { this.#flat = P.tail(init.#flat, 0); return; }
    if (typeof init[Symbol.iterator] === 'function') {
      for (const pair of init) {
        const [name, value, ...more] = pair;
        if (value === undefined || more.length !== 0) throw new P.TypeError('Headers: every pair needs a name and a value');
        this.append(name, value);
      }
      return;
    }
    for (const name of P.keys(init)) this.append(name, init[name]);
  }

  /** Headers whose flat array is given away. */
  static [Symbol.for('bulkhead.flat')](flat) {
    const h = new Headers();
    h.#flat = flat;
    return h;
  }

  static flatOf(h) { return h.#flat; }

  append(name, value) {
    const flat = this.#flat, n = flat.length;
    flat[n] = checkName(name);
    flat[n + 1] = checkValue(value);
  }

  set(name, value) {
    name = checkName(name);
    value = checkValue(value);
    const flat = this.#flat, kept = [];
    let n = 0, placed = false;
    for (let i = 0; i < flat.length; i += 2) {
      if (flat[i] !== name) { kept[n++] = flat[i]; kept[n++] = flat[i + 1]; continue; }
      if (placed) continue;
      placed = true;
      kept[n++] = name; kept[n++] = value;
    }
    if (!placed) { kept[n++] = name; kept[n++] = value; }
    this.#flat = kept;
  }

  get(name) {
    name = checkName(name);
    let out = null;
    const flat = this.#flat;
    for (let i = 0; i < flat.length; i += 2) if (flat[i] === name) out = out === null ? flat[i + 1] : `${out}, ${flat[i + 1]}`;
    return out;
  }

  has(name) { return this.get(name) !== null; }

  delete(name) {
    name = checkName(name);
    const flat = this.#flat, kept = [];
    let n = 0;
    for (let i = 0; i < flat.length; i += 2) if (flat[i] !== name) { kept[n++] = flat[i]; kept[n++] = flat[i + 1]; }
    this.#flat = kept;
  }

  getSetCookie() {
    const flat = this.#flat, out = [];
    for (let i = 0; i < flat.length; i += 2) if (flat[i] === 'set-cookie') out[out.length] = flat[i + 1];
    return out;
  }

  forEach(callback, self) { for (const [name, value] of this) callback.call(self, value, name, this); }
  * keys() { for (const [name] of this) yield name; }
  * values() { for (const [, value] of this) yield value; }
  * entries() { yield* this.#sorted(); }
  [Symbol.iterator]() { return this.entries(); }
  get [Symbol.toStringTag]() { return 'Headers'; }

  #sorted() {
    const joined = new P.Map(), out = [], flat = this.#flat;
    for (let i = 0; i < flat.length; i += 2) {
      const name = flat[i];
      if (name === 'set-cookie') out[out.length] = [name, flat[i + 1]];
      else if (!joined.has(name)) joined.set(name, flat[i + 1]);
      else joined.set(name, `${joined.get(name)}, ${flat[i + 1]}`);
    }
    for (const pair of joined) out[out.length] = pair;
    return out.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  }
}

const make = Headers[Symbol.for('bulkhead.flat')], flatOf = Headers.flatOf;
delete Headers[Symbol.for('bulkhead.flat')];
delete Headers.flatOf;

function checkName(name) {
  name = `${name}`;
  if (!P.test(NAME, name)) throw new P.TypeError(`Headers: ${P.stringify(name)} is not a header name`);
  return P.toLowerCase(name);
}

function checkValue(value) {
  value = P.replace(`${value}`, /^[\t\r\n ]+|[\t\r\n ]+$/g, '');
  if (P.test(BAD_VALUE, value)) throw new P.TypeError('Headers: a value holds a character that headers cannot');
  return value;
}

module.exports = { Headers, make, flatOf };
