'use strict';
// One request and its response on a connection (frames.js): where the parts of
// its head lie, and its two bodies, each with the credit that docs/frames.md
// gives it. invocation.js extends it with what a request means.

const P = require('./primordials.js');
const C = require('./codec.js');

const { subarray, mapDelete } = P;
const { putU16, putFrame, FRAME, FIELD } = C;

const EMPTY = P.alloc(0);
const INLINE = 32768; // bodies up to this travel in the RESPONSE frame
/** For the cell: when a runner last sent something, and how many requests have
 * ended. */
const activity = { last: P.now(), done: 0 };

const GRANT = C.INITIAL_WINDOW / 4;

/** One request and its response. Whoever extends it gives start(), body(chunk,
 * ended, trailers) and gone(code, reason); chunks and heads lie in the connection's
 * buffers and stay valid. */
class Exchange {
  constructor(conn, id) {
    this.conn = conn;
    this.id = id;
    this.buf = null;
    this.fieldsAt = this.methodAt = this.targetAt = this.headersAt = 0;
    this.first = null;                    // the body's bytes that came with the head
    this.inEnded = false;
    this.inWindow = C.INITIAL_WINDOW;     // body bytes the peer may still send
    this.consumed = 0;                    // and those not yet granted again
    this.credit = C.INITIAL_WINDOW;       // body bytes we may still send
    this.headSent = false;
    this.queue = null;                    // chunks that wait for credit
    this.over = false;                    // our END or a RESET: the stream is gone
    this.overAt = 0;                      // when, in milliseconds since 1970
    this.upgraded = false;                // the response is a 101, and may be: peer.js
    this.moved = 0;                       // then: when the last byte came or went, in milliseconds since 1970
  }

  field(id) { return C.fieldText(this.buf, this.fieldsAt, id); }
  header(name) { return C.findHeader(this.buf, this.headersAt, name); }
  get method() { return P.latin1Slice(this.buf, this.methodAt + 1, this.targetAt); }
  get target() { return P.latin1Slice(this.buf, this.targetAt + 2, this.headersAt); }
  /** When it is out of time, in milliseconds since 1970. */
  get deadline() { return C.fieldU64(this.buf, this.fieldsAt, FIELD.deadline); }
  /** Whether it asks for another protocol: it has no body, though it does not
   * end before the answer. */
  get upgrades() { return !this.inEnded && this.header('upgrade') !== undefined; }
  get isHead() { const b = this.buf, p = this.methodAt; return b[p] === 4 && b[p + 1] === 72 && b[p + 2] === 69 && b[p + 3] === 65 && b[p + 4] === 68; }

  // Body in.

  received(chunk, ended) {
    if (this.inEnded) return 'data after the end';
    this.inWindow -= chunk.length;
    if (this.inWindow < 0) return 'more data than was granted';
    this.inEnded = ended;
    this.body(chunk, ended, null);
    return '';
  }

  receivedTrailers(flat) {
    if (this.inEnded) return 'trailers after the end';
    this.inEnded = true;
    this.body(EMPTY, true, flat);
    return '';
  }

  /** n bytes of the request's body were used up: more may come. */
  grant(n) {
    if (this.inEnded || this.over) return;
    this.consumed += n;
    if (this.consumed < GRANT) return;
    this.inWindow += this.consumed;
    this.conn.window(this.id, this.consumed);
    this.consumed = 0;
  }

  wasReset(code, reason) {
    if (this.over) return;
    this.queue = null;
    this.finish();
    this.gone(code, reason);
  }

  // Response out.

  /** Sends the head and, when it is given, the body's first or only part (text
   * or bytes). headers: flat, lower-case names, Latin-1 values. */
  respond(status, cause, headers, body, ended) {
    if (!this.upgraded) checkStatus(status);
    const isText = typeof body === 'string';
    const size = body === null ? 0 : isText ? P.byteLength(body) : body.length;
    const inline = size <= INLINE && size <= this.credit;
    const head = 3 + (cause === '' ? 0 : 3 + cause.length) + C.headersSize(headers);
    if (head > C.MAX_HEAD) throw new P.Error(`response headers take ${head} bytes, at most ${C.MAX_HEAD} are allowed`);
    const length = head + (inline ? size : 0), conn = this.conn;
    const at = conn.reserve(FRAME + length), b = conn.out;
    const p = putHead(b, putFrame(b, at, length, C.RESPONSE, inline && ended ? C.END : 0, this.id), status, cause, headers);
    this.headSent = true;
    if (!inline) { this.send(isText ? P.from(body) : body, ended, null); return; }
    if (size !== 0) {
      if (isText) P.utf8Write(b, body, p, size); else P.fill(b, body, p);
      this.credit -= size;
    }
    if (ended) this.finish();
  }

  /** Sends a chunk of the body, as far as credit reaches; the rest waits.
   * sent is called when the last byte has left. True: it has. */
  send(chunk, ended, sent) {
    if (this.over) { if (sent !== null) P.nextTick(sent); return true; }
    if (this.queue === null) {
      const rest = this.push(chunk, ended);
      if (rest === null) { if (sent !== null) P.nextTick(sent); return true; }
      chunk = rest;
      this.queue = [];
    }
    this.queue[this.queue.length] = { chunk, ended, sent, trailers: null };
    return false;
  }

  /** Ends the response with trailers, a flat array; sent is as in send(). */
  sendTrailers(flat, sent) {
    if (this.queue !== null) { this.queue[this.queue.length] = { chunk: EMPTY, ended: true, sent, trailers: flat }; return; }
    if (!this.over) this.endWith(flat);
    P.nextTick(sent);
  }

  endWith(flat) {
    this.conn.trailers(this.id, flat);
    this.finish();
  }

  /** Frames as much of chunk as credit allows; returns the rest, null if none. */
  push(chunk, ended) {
    do {
      const n = P.min(chunk.length, this.credit, C.MAX_DATA), all = n === chunk.length;
      if (n === 0 && !all) return chunk;
      this.conn.data(this.id, all ? chunk : subarray(chunk, 0, n), ended && all);
      this.credit -= n;
      if (all) { if (ended) this.finish(); return null; }
      chunk = subarray(chunk, n);
    } while (true);
  }

  granted(credit) {
    this.credit += credit;
    const q = this.queue;
    if (q === null) return;
    let i = 0;
    for (; i < q.length && !this.over; i++) { // grows while sent() sends more
      if (q[i].trailers !== null) this.endWith(q[i].trailers);
      else {
        const rest = this.push(q[i].chunk, q[i].ended);
        if (rest !== null) { q[i].chunk = rest; break; }
      }
      if (q[i].sent !== null) q[i].sent();
    }
    this.queue = i === q.length || this.over ? null : P.tail(q, i);
  }

  /** Gives the exchange up in the middle. */
  abort(code, reason) {
    if (this.over) return;
    this.conn.reset(this.id, code, reason);
    this.queue = null;
    this.finish();
  }

  finish() {
    this.over = true;
    this.overAt = this.conn.reading ? activity.last : P.now();
    activity.done++;
    mapDelete(this.conn.streams, this.id);
    if (this.conn.draining) this.conn.drained();
  }
}

/** Throws what node:http throws for a status that no response can have. 1xx
 * announce a response, they are none; 101 belongs to an upgrade. */
function checkStatus(status) {
  if (status >= 200 && status <= 999) return;
  const e = new P.RangeError(`Invalid status code: ${status}`);
  e.code = 'ERR_HTTP_INVALID_STATUS_CODE';
  throw e;
}

function putHead(b, p, status, cause, headers) {
  putU16(b, p, status);
  p += 2;
  if (cause === '') b[p++] = 0;
  else {
    b[p] = 1; b[p + 1] = C.CAUSE;
    putU16(b, p + 2, cause.length);
    P.latin1Write(b, cause, p + 4, cause.length);
    p += 4 + cause.length;
  }
  return C.putHeaders(b, p, headers);
}

module.exports = { Exchange, checkStatus, activity };
