'use strict';
// Whose turn it is: for the harness by AsyncLocalStorage, for the cell in two
// ways that need no answer from here (docs/cell.md, "The channel"): the eye, a
// function to call where the debugger has paused, and the mark, bytes to read
// from this process's memory.

const { randomBytes } = require('node:crypto');
const P = require('./primordials.js');
const { FIELD, findField } = require('./codec.js');

const MARK = 16, MAX = 128; // bytes of the mark, and of an id behind it
const memory = P.alloc(1 << 20); // so large that malloc maps it by itself, and it begins 16 bytes into a page

const als = new P.AsyncLocalStorage();
const cut = new P.Set();  // whose synchronous turn the debugger has ended
let entered = null;       // whose it is

/** The invocation in which the running code was started, if any. */
function current() { return P.alsGet(als); }

/** Calls fn(inv, …) as inv's code. */
function within(inv, fn, a, b, c, d) { return P.alsRun(als, inv, fn, inv, a, b, c, d); }

/** Calls fn(…) as nobody's code. */
function outside(fn, a, b) { return P.alsRun(als, undefined, fn, a, b); }

/** The synchronous turn of an invocation begins. */
function enter(inv) {
  if (entered !== null) P.setAdd(cut, entered);
  entered = inv;
  memory[MARK] = 0;
  const b = inv.buf, at = findField(b, inv.fieldsAt, FIELD.id);
  if (at < 0) return;
  const length = at % 65536, start = (at - length) / 65536, n = length < MAX ? length : MAX;
  for (let i = 0; i < n; i++) memory[MARK + 1 + i] = b[start + i];
  memory[MARK] = n;
}

/** And ends. */
function exit() {
  entered = null;
  memory[MARK] = 0;
}

/** In a new turn of the event loop: calls each(inv) for those whose synchronous
 * turn never came to its end. */
function cutShort(each) {
  if (entered !== null) P.setAdd(cut, entered);
  exit();
  if (P.setSize(cut) !== 0) P.setForEach(cut, (inv) => { P.setDelete(cut, inv); each(inv); });
}

/** Puts the eye among the globals and the mark into memory; returns what tells
 * the cell of them. */
function show() {
  const eye = `_${randomBytes(16).toString('hex')}`, bytes = randomBytes(MARK), mark = bytes.toString('hex');
  const value = P.freeze(() => {
    try { return current()?.requestId ?? ''; } catch { return ''; }
  });
  P.defineProperty(globalThis, eye, { __proto__: null, value, enumerable: false, writable: false, configurable: false });
  memory.set(bytes);
  bytes.fill(0); // one mark is enough
  return { eye, mark };
}

module.exports = { current, within, outside, enter, exit, cutShort, show };
