'use strict';
// One invocation of the tenant's function: how its request is read, how its
// result or its error becomes a response, and which of them an error without
// an owner belongs to. The invocation is the store of the AsyncLocalStorage
// in which the code runs.

const P = require('./primordials.js');
const { FIELD, CODE } = require('./codec.js');
const { Exchange } = require('./exchange.js');

const als = new P.AsyncLocalStorage();
const JSON_TYPE = 'application/json';

/** What a process serves: set once, when the code has been loaded. */
const served = { invoke: null, parses: true, file: '', meta: P.freeze({}), secrets: P.freeze({}) };

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
  }

  get requestId() { return this.field(FIELD.id); }

  start() {
    if (served.parses || this.asksToParse()) {
      if (!this.inEnded) {
        this.chunks = this.first === null ? [] : [this.first];
        if (this.first !== null) this.grant(this.first.length);
        return;
      }
      this.raw = this.first;
    }
    P.alsRun(als, this, run, this);
  }

  /** The token's claim pb=1: parse the body even for (ctx, req, res). */
  asksToParse() {
    const claims = this.field(FIELD.claims);
    if (claims === undefined || !P.includes(claims, '"pb"')) return false;
    try { return !!P.parse(claims).pb; } catch { return false; }
  }

  body(chunk, ended) {
    if (this.chunks === null) {
      if (this.request !== null) P.alsRun(als, this, deliver, this, chunk, ended);
      else if (this.early === null) this.early = [chunk];
      else this.early[this.early.length] = chunk; // at most a window: nothing is granted
      return;
    }
    this.chunks[this.chunks.length] = chunk;
    this.grant(chunk.length);
    if (!ended) return;
    this.raw = P.concat(this.chunks);
    this.chunks = null;
    P.alsRun(als, this, run, this);
  }

  /** The requester has gone, or wants no more. */
  gone(code, reason) {
    this.done = true;
    if (this.request === null && this.response === null && this.aborter === null) return;
    P.alsRun(als, this, tellGone, this, code, reason);
  }

  /** An AbortSignal for when the requester goes before the answer has ended. */
  get signal() { return (this.aborter ??= new AbortController()).signal; }

  granted(credit) {
    if (this.queue === null) super.granted(credit);
    else P.alsRun(als, this, grantedIn, this, credit);
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
  try {
    served.invoke(inv);
  } catch (e) {
    inv.fail(e, 500, 'Script generated an unhandled synchronous exception.', 'exception');
  }
}

function deliver(inv, chunk, ended) { inv.request.arrived(chunk, ended); }
function grantedIn(inv, credit) { inv.grantedNow(credit); }
function tellGone(inv, code, reason) {
  if (inv.request !== null) inv.request.gone(code, reason);
  if (inv.response !== null) inv.response.gone(code, reason);
  if (inv.aborter !== null) inv.aborter.abort();
}

/** An error as clients of Webtask know it. */
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

function text(v) { return v === undefined ? undefined : P.String(v); }

/** A stack without the harness's own frames. */
function userFrames(stack) {
  if (stack === undefined) return undefined;
  const lines = P.split(stack, '\n');
  let out = '';
  for (let i = 0; i < lines.length; i++) {
    if (P.includes(lines[i], __dirname)) continue;
    out += out === '' ? lines[i] : `\n${lines[i]}`;
  }
  return out;
}

/** The invocation in which the running code was started, if any. */
function current() { return P.alsGet(als); }

module.exports = { Invocation, served, current, describe, userFrames };
