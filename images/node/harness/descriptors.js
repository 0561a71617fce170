'use strict';
// A few file descriptors in reserve, given back when the code has opened all
// that there are: a connection that comes then would be closed unheard, and
// the runner must be able to come again.

const fs = require('node:fs');

const { openSync, closeSync } = fs;
const RESERVE = 4, EVERY = 250; // milliseconds between looks
const held = [];
let looked = 0;

/** Fills the reserve, or gives it back when there is no descriptor left; asked
 * often, it looks now and then. now is in milliseconds since 1970. */
function look(now) {
  if (now - looked < EVERY) return;
  looked = now;
  try {
    if (held.length === RESERVE) closeSync(openSync(__filename));
    else held[held.length] = openSync(__filename);
  } catch {
    for (; held.length !== 0; held.length--) release(held[held.length - 1]);
  }
}

function release(fd) {
  try { closeSync(fd); } catch { /* the code has closed it */ }
}

module.exports = { look };
