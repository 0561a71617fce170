'use strict';
// What the code prints, as lines for the cell: a record separator, then JSON
// {"r": request id, "l": level, "m": message}. Lines without it, from native
// code or another process, the cell takes as they are.

const { Writable } = require('node:stream');
const P = require('./primordials.js');
const { current } = require('./turn.js');

const MAX = 15000; // of a message; the cell's line limit is 16 KiB

let level = ''; // of the console method that is running

/** Writes one record; the pipe is blocking, so nothing is lost at exit. */
function log(lvl, message) {
  if (message.length > MAX) message = `${P.slice(message, 0, MAX)}… (${message.length} characters)`;
  const inv = current();
  const record = { l: lvl, m: message };
  if (inv !== undefined) record.r = inv.requestId;
  try { P.writeSync(1, `\x1e${P.stringify(record)}\n`); } catch { /* the cell has gone, and we go too */ }
}

function stream(fd, lvl) {
  let rest = '';
  const s = new Writable({
    decodeStrings: false,
    write(chunk, encoding, done) {
      const text = rest + (typeof chunk === 'string' ? chunk : P.utf8Slice(chunk, 0, chunk.length));
      // One write that ends a line is one record, however many lines it has.
      if (text[text.length - 1] === '\n') { rest = ''; log(level || lvl, P.slice(text, 0, -1)); }
      else if (text.length > MAX) { rest = ''; log(level || lvl, text); }
      else rest = text;
      done();
    },
  });
  s.fd = fd;
  s.isTTY = false;
  return s;
}

/** Replaces process.stdout and process.stderr, and tells warn and debug apart. */
function install() {
  const out = stream(1, 'info'), err = stream(2, 'error');
  P.defineProperty(process, 'stdout', { __proto__: null, configurable: true, enumerable: true, get: () => out });
  P.defineProperty(process, 'stderr', { __proto__: null, configurable: true, enumerable: true, get: () => err });
  console.warn = withLevel(console.warn, 'warn');
  console.debug = withLevel(console.debug, 'debug');
}

function withLevel(method, lvl) {
  return (...args) => {
    level = lvl;
    try { method(...args); } finally { level = ''; }
  };
}

module.exports = { install, log };
