'use strict';
// The wall clock, told by the process itself while it is healthy: a request
// that is out of time gets its 504 here, with what it was waiting for. One
// timer serves all requests; the runner ends what we don't, a little later.

const P = require('./primordials.js');
const { FIELD, fieldU64 } = require('./codec.js');
const { waitingFor } = require('./waits.js');

const LONGEST = 0x7fffffff; // that setTimeout can wait, in milliseconds

class Wall {
  #armed = Infinity; // when the timer fires, in milliseconds since 1970
  #timer = null;
  #each;

  /** each(visit) calls visit with every open request. */
  constructor(each) { this.#each = each; }

  /** Sees to it that inv does not outlast its deadline. */
  watch(inv) {
    const at = inv.deadline;
    if (at < this.#armed) this.#arm(at);
  }

  #arm(at) {
    if (this.#timer !== null) P.clearTimeout(this.#timer);
    this.#armed = at;
    this.#timer = P.setTimeout(() => this.#due(), P.min(P.max(at - P.now(), 1), LONGEST));
    P.unref(this.#timer);
  }

  #due() {
    const now = P.now();
    let next = Infinity;
    this.#timer = null;
    this.#armed = Infinity;
    this.#each((inv) => {
      if (inv.upgraded) return; // has had its answer
      const at = inv.deadline;
      if (at <= now) inv.outOfTime(now);
      else if (at < next) next = at;
    });
    if (next < this.#armed) this.#arm(next);
  }
}

/** The answer to an invocation that is out of time. */
function verdict(inv, now) {
  const wall = fieldU64(inv.buf, inv.fieldsAt, FIELD.wall);
  const wait = inv.chunks === null ? waitingFor(inv) : { what: 'the rest of the request\'s body', where: '' };
  const out = { code: 504, error: 'wall_limit', message: `function ${inv.field(FIELD.function) || 'code'} took too long`, limit: 'limits.wall' };
  if (wall !== Infinity) {
    out.value = duration(wall);
    out.measured = duration(wall + now - inv.deadline);
    out.message = `function ${inv.field(FIELD.function) || 'code'} took ${out.measured}, of ${out.value} that limits.wall allows`;
  }
  if (wait.where !== '') out.where = wait.where;
  if (wait.what !== '') {
    out.waiting = wait.what;
    out.message += `; it was waiting for ${wait.what}`;
  }
  out.req_id = inv.requestId;
  return out;
}

/** Milliseconds as people write them: 60s, 1.5s, 60.01s, 250ms. */
function duration(ms) { return ms < 1000 ? `${ms}ms` : `${P.round(ms / 10) / 100}s`; }

module.exports = { Wall, verdict };
