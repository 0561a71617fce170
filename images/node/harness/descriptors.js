'use strict';
// A few file descriptors in reserve, for when the code has opened all that
// there are: the runner's next connection must be accepted all the same.

const fs = require('node:fs');
const P = require('./primordials.js');

const { openSync, closeSync } = fs;
const RESERVE = 4, AGAIN = 1000; // milliseconds until the reserve is filled up

class Descriptors {
  #held = [];
  #timer = null;

  /** Fills the reserve, as far as there are descriptors. */
  fill() {
    this.#timer = null;
    try {
      for (let n = this.#held.length; n < RESERVE; n++) this.#held[n] = openSync(__filename);
    } catch {
      this.#later();
    }
  }

  /** Gives one up: a connection has been refused for want of it, and whoever
   * made it comes again. */
  lend() {
    const n = this.#held.length;
    if (n === 0) return;
    const fd = this.#held[n - 1];
    this.#held.length = n - 1;
    try { closeSync(fd); } catch { /* the code has closed it */ }
    this.#later();
  }

  #later() {
    if (this.#timer === null) P.unref(this.#timer = P.setTimeout(() => this.fill(), AGAIN));
  }
}

module.exports = { Descriptors };
