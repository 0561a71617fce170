'use strict';
// One invocation of the tenant's function: how its request is read, how its
// result or its error becomes a response, and which of them an error without
// an owner belongs to.

const P = require('./primordials.js');
const { FIELD, CODE } = require('./codec.js');
const { Exchange } = require('./exchange.js');
const { describe } = require('./errors.js');
const { within, enter, exit } = require('./turn.js');
const background = require('./background.js');
const { verdict } = require('./wall.js');

const JSON_TYPE = 'application/json';
const EMPTY = P.alloc(0), GOING = 'this process is going';

/** What a process serves: set once, when the code has been loaded. caught(e)
 * is called, in the invocation, with what its code throws in a later turn. */
const served = { invoke: null, parses: true, file: '', meta: P.freeze({}), secrets: P.freeze({}), caught() {} };

class Invocation extends Exchange {
  constructor(conn, id) {
    super(conn, id);
    this.done = false;     // a result was chosen; later ones are ignored
    this.raw = null;       // the whole body, when it is to be parsed
    this.chunks = null;
    this.early = null;     // what came before anybody asked for the stream
    this.request = null;   // the object that gets the body as a stream
    this.response = null;  // the object that streams the response
    this.aborter = null;   // tells code that asked for a signal that its client has gone
    this.promises = 0;     // given to ctx.waitUntil(), and not settled
    this.told = false;     // the log says that its timers were stopped
    this.waits = null;     // what it waits for: waits.js
    this.waited = 0;
    this.fetchPlace = null;
  }

  get requestId() { return this.field(FIELD.id); }

  start() {
    if (served.parses || this.asksToParse()) {
      if (!this.inEnded && !this.upgrades) {
        this.chunks = this.first === null ? [] : [this.first];
        if (this.first !== null) this.grant(this.first.length);
        return;
      }
      this.raw = this.first;
    }
    within(this, run);
  }

  /** The token's claim pb=1: parse the body even for (ctx, req, res). */
  asksToParse() {
    const claims = this.field(FIELD.claims);
    if (claims === undefined || !P.includes(claims, '"pb"')) return false;
    try { return !!P.parse(claims).pb; } catch { return false; }
  }

  body(chunk, ended, trailers) {
    if (this.chunks === null) {
      if (this.request !== null) within(this, turn, deliver, chunk, ended, trailers);
      else if (this.early === null) this.early = [chunk];
      else this.early[this.early.length] = chunk; // at most a window: nothing is granted
      return;
    }
    this.chunks[this.chunks.length] = chunk;
    this.grant(chunk.length);
    if (!ended) return;
    this.raw = P.concat(this.chunks);
    this.chunks = null;
    within(this, run);
  }

  /** The requester has gone, or wants no more. */
  gone(code, reason) {
    this.done = true;
    if (this.request === null && this.response === null && this.aborter === null) return;
    within(this, turn, tellGone, code, reason);
  }

  finish() {
    super.finish();
    if (this.promises !== 0) background.answered(this);
  }

  /** Its deadline has passed; now is in milliseconds since 1970. */
  outOfTime(now) {
    const was = this.done;
    if (this.headSent || was) this.abort(CODE.time, 'the request is out of time');
    else this.answer(504, 'wall_limit', JSON_TYPE, P.stringify(verdict(this, now)));
    this.gone(CODE.time, 'the request is out of time');
  }

  /** Its turn was ended in the middle, so its code will not answer any more. */
  cutShort() {
    if (this.over) return;
    this.fail(new P.Error('its code did not return to the event loop'), 508, 'Script was stopped.', 'block_limit');
  }

  /** Ends the stream that a 101 has turned into raw bytes: the process goes. */
  hangUp() {
    if (this.queue === null) this.send(EMPTY, true, null);
    else this.abort(CODE.cancelled, GOING);
    this.gone(CODE.cancelled, GOING);
  }

  /** An AbortSignal for when the requester goes before the answer has ended. */
  get signal() { return (this.aborter ??= new AbortController()).signal; }

  granted(credit) {
    if (this.queue === null) super.granted(credit);
    else within(this, turn, grantedIn, credit);
  }

  grantedNow(credit) { super.granted(credit); }

  /** The function's result, as JSON. */
  succeed(value) {
    if (this.done) return;
    let text;
    try {
      text = P.stringify(value || {});
    } catch (e) {
      this.fail(e, 400, 'Script returned a value that cannot be sent as JSON.', 'bad_result');
      return;
    }
    if (this.done) return; // toJSON may have answered
    this.answer(200, '', JSON_TYPE, text === undefined ? '{}' : text);
  }

  /** The function's error; cause is '' when the code itself reported it. */
  fail(err, status, title, cause) {
    if (this.done) { this.breakOff(title); return; }
    if (err !== null && typeof err === 'object') {
      let own;
      try { own = err.statusCode; } catch { own = undefined; }
      if (own >= 400 && own <= 599 && own === own >>> 0) status = own;
    }
    if (this.headSent) { this.done = true; this.breakOff(title); return; }
    this.answer(status, cause, JSON_TYPE, P.stringify(describe(err, status, title)));
  }

  /** After the head has gone out, all that is left is to end the stream short. */
  breakOff(title) {
    if (this.headSent && !this.over) this.abort(CODE.internal, title);
  }

  /** One whole response. */
  answer(status, cause, type, body) {
    this.done = true;
    if (this.over) return;
    const headers = ['content-type', type, 'content-length', `${P.byteLength(body)}`];
    this.respond(status, cause, headers, this.isHead ? null : body, true);
    if (this.response !== null) this.response.replaced();
  }
}

function run(inv) {
  enter(inv);
  try {
    served.invoke(inv);
  } catch (e) {
    inv.fail(e, 500, 'Script generated an unhandled synchronous exception.', 'exception');
  } finally {
    exit();
  }
}

/** A later turn of inv. What its code throws must not reach the connection,
 * which is in the middle of other requests' frames. */
function turn(inv, what, a, b, c) {
  enter(inv);
  try {
    what(inv, a, b, c);
  } catch (e) {
    served.caught(e);
  } finally {
    exit();
  }
}

function deliver(inv, chunk, ended, trailers) { inv.request.arrived(chunk, ended, trailers); }
function grantedIn(inv, credit) { inv.grantedNow(credit); }
function tellGone(inv, code, reason) {
  if (inv.request !== null) inv.request.gone(code, reason);
  if (inv.response !== null) inv.response.gone(code, reason);
  if (inv.aborter !== null) inv.aborter.abort();
}

module.exports = { Invocation, served };
