'use strict';
// Errors in words: as clients of Webtask know them, and as logs show them.

const P = require('./primordials.js');
const { short } = require('./modules.js');

/** An error as the body of an answer. */
function describe(err, status, title) {
  const out = { code: status, error: title };
  try {
    out.details = P.String(err);
    if (err !== null && typeof err === 'object') {
      out.name = text(err.name);
      out.message = text(err.message);
      out.stack = userFrames(text(err.stack));
    }
  } catch {
    out.details = 'the error cannot be shown: looking at it throws';
  }
  return out;
}

/** An error as a line of the log. */
function shown(err) {
  try {
    return err !== null && typeof err === 'object' && err.stack ? userFrames(P.String(err.stack)) : P.String(err);
  } catch {
    return 'the error cannot be shown: looking at it throws';
  }
}

function text(v) { return v === undefined ? undefined : P.String(v); }

/** A stack without the harness's own frames. */
function userFrames(stack) {
  if (stack === undefined) return undefined;
  const lines = P.split(short(stack), '\n');
  let out = '';
  for (let i = 0; i < lines.length; i++) {
    if (P.includes(lines[i], __dirname)) continue;
    out += out === '' ? lines[i] : `\n${lines[i]}`;
  }
  return out;
}

const OWN = /\/function\/((?!.*node_modules\/)[^()]*:\d+:\d+)\)?$/;

/** Where in the tenant's own code a stack was: file:line:column, or ''. */
function ownPlace(stack) {
  const lines = P.split(P.String(stack), '\n');
  for (let i = 0; i < lines.length; i++) {
    const m = P.exec(OWN, lines[i]);
    if (m !== null) return m[1];
  }
  return '';
}

module.exports = { describe, shown, userFrames, ownPlace };
