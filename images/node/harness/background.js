'use strict';
// What goes on after the answer: promises given to ctx.waitUntil(), and timers.
// Both have limits.background; then the first are waited for no longer, and
// the second are stopped, but for those that were unref'd: they are a
// package's housekeeping for all requests, which one of them happened to start.

const P = require('./primordials.js');
const { current, within } = require('./turn.js');
const { log } = require('./console.js');
const { shown } = require('./errors.js');
const { timerSet } = require('./waits.js');

const DEFAULT = 30000; // milliseconds
const NOTED = 10; // milliseconds: shorter timers nobody waits for
const held = new P.Set(); // answered, and still waiting for promises
let limit = DEFAULT, timer = null, idle = () => {};

/** ms is limits.background, 0 for the default. settled is called when no
 * invocation is waited for any more. */
function configure(ms, settled) {
  limit = ms > 0 ? ms : DEFAULT;
  idle = settled;
}

/** How many answered invocations are still waited for. */
function count() { return P.setSize(held); }

/** ctx.waitUntil(). */
function waitUntil(inv, promise) {
  inv.promises++;
  if (inv.over) answered(inv);
  const settled = () => { if (--inv.promises === 0) release(inv); };
  P.then(P.Promise.resolve(promise), settled, (e) => {
    log('error', `A promise given to ctx.waitUntil() was rejected. ${shown(e)}`);
    settled();
  });
}

/** inv, which has promises, has had its answer. */
function answered(inv) {
  if (expired(inv)) return;
  P.setAdd(held, inv);
  if (timer === null) arm(limit);
}

function release(inv) {
  if (P.setDelete(held, inv) && count() === 0) idle();
}

function arm(ms) {
  timer = P.setTimeout(giveUp, ms);
  P.unref(timer);
}

/** Waits no longer for those that are over the limit; the set has them in the
 * order of their answers, more or less. */
function giveUp() {
  const now = P.now();
  let next = Infinity;
  timer = null;
  P.setForEach(held, (inv) => {
    const due = inv.overAt + limit;
    if (due > now) { next = P.min(next, due); return; }
    within(inv, () => log('warn', `What was given to ctx.waitUntil() is not done ${limit / 1000} s after the answer (limits.background): it is no longer waited for.`));
    release(inv);
  });
  if (next !== Infinity) arm(next - now);
}

function expired(inv) { return inv.over && P.now() - inv.overAt > limit; }

/** Stands in for the callback of a timer whose time is over. */
function stopped() {
  const inv = current();
  P.clearTimeout(this);
  if (inv.told) return;
  inv.told = true;
  log('warn', `Timers of this request are stopped: ${limit / 1000} s have passed since its answer (limits.background).`);
}

/** Node keeps a timer's callback in a property of its own, and looks there
 * when it calls it, in the context of who set it. An accessor in its place
 * costs next to nothing, and leaves setTimeout and the others as they are. */
function install() {
  const t = P.setTimeout(() => {}, 0), i = P.setImmediate(() => {});
  const hasRef = P.uncurry(P.getPrototypeOf(t).hasRef);
  hook(t, '_onTimeout', (self) => hasRef(self), true);
  hook(i, '_onImmediate', () => true, false);
  P.clearTimeout(t);
  P.clearImmediate(i);
}

function hook(example, property, counts, noted) {
  const CALLBACK = Symbol('callback'), proto = P.getPrototypeOf(example);
  if (!P.hasOwn(example, property)) throw new P.Error(`timers have no ${property}`);
  function set(callback) {
    if (noted && this._idleTimeout >= NOTED && this[CALLBACK] === undefined) timerSet(this, set);
    this[CALLBACK] = callback;
  }
  function get() {
    const callback = this[CALLBACK], inv = current();
    if (inv === undefined || !inv.over || typeof callback !== 'function') return callback;
    return counts(this) && expired(inv) ? stopped : callback;
  }
  P.defineProperty(proto, property, { __proto__: null, configurable: true, get, set });
}

module.exports = { configure, count, waitUntil, answered, install };
