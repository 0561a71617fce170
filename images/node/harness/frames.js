'use strict';
// One connection from the runner, as docs/frames.md has it: frames in are
// handed to exchanges, frames out are gathered in one buffer and written once
// per turn of the event loop.

const P = require('./primordials.js');
const C = require('./codec.js');
const { activity } = require('./exchange.js');
const { subarray, mapGet, mapSet, mapForEach, mapSize, utf8Slice } = P;
const { u32, putU16, putU32, putFrame, FRAME } = C;

const SLACK = 1000; // milliseconds past a request's deadline
const POOL = 32768;
const COPY = 4096; // bodies up to this are copied, larger ones attached

class Connection {
  /** open(conn, id) makes the Exchange for a new request; drained() is called
   * when a stream ends after goaway(), closed(conn) when the connection has;
   * pending(exchange) for each request that is not answered at once. */
  constructor(socket, role, { open, closed, drained, pending }) {
    this.socket = socket;
    this.open = open;
    this.drained = drained;
    this.pending = pending;
    this.streams = new P.Map();
    this.out = P.alloc(POOL);
    this.used = 0;     // bytes of out that hold frames
    this.from = 0;     // bytes of out that are in segments already
    this.segments = [];
    this.reading = false;
    this.chunk = null; // that is being read, and
    this.at = 0;       // where its next frame begins
    this.starting = null;
    this.scheduled = false;
    this.parts = [];   // a frame that has not arrived whole
    this.have = 0;
    this.need = FRAME;
    this.greeted = false;
    this.draining = false;
    this.dead = false;
    this.flush = this.flush.bind(this);
    socket.on('data', (chunk) => this.feed(chunk));
    socket.on('error', () => {});
    socket.on('close', () => { this.lost('the connection was lost'); closed(this); });
    this.text(C.HELLO, 0, `BHF\x01${role}`);
  }

  /** Streams that have not ended, but for those past their deadline; one that
   * a 101 has turned into raw bytes lasts as long as the process. */
  inTime(now) {
    if (mapSize(this.streams) === 0) return 0;
    let n = 0;
    mapForEach(this.streams, (x) => { if (x.deadline + SLACK > now || x.upgraded && !this.draining) n++; });
    return n;
  }

  /** Ends the streams that are past their deadline. */
  giveUp(now) {
    mapForEach(this.streams, (x) => { if (x.deadline + SLACK <= now) x.abort(C.CODE.time, 'the request is out of time'); });
  }

  each(visit) { mapForEach(this.streams, visit); }

  feed(chunk) {
    if (this.dead) return;
    activity.last = P.now();
    if (this.chunk !== null) chunk = P.concat([this.cutOff(), chunk]);
    else if (this.have !== 0) {
      this.parts[this.parts.length] = chunk;
      this.have += chunk.length;
      if (this.have < this.need) return;
      chunk = P.concat(this.parts, this.have);
      this.parts = [];
      this.have = 0;
      this.need = FRAME;
    }
    this.read(chunk);
  }

  read(chunk) {
    this.reading = true;
    this.chunk = chunk;
    this.at = 0;
    const rest = this.frames(chunk);
    this.reading = false;
    this.chunk = null;
    if (rest < chunk.length && !this.dead) {
      this.parts[0] = subarray(chunk, rest);
      this.have = chunk.length - rest;
    }
    if (this.used !== this.from || this.segments.length !== 0) this.flush();
  }

  /** What the debugger cut off: it has ended the turn of a request's code, and
   * the reading of the frames behind that request with it. */
  cutOff() {
    const rest = subarray(this.chunk, this.at), x = this.starting;
    this.chunk = this.starting = null;
    if (x !== null && !x.over) { mapSet(this.streams, x.id, x); this.pending(x); }
    return rest;
  }

  /** Reads on, if reading was cut off. */
  resume() {
    if (this.chunk !== null && !this.dead) this.read(this.cutOff());
  }

  /** Takes all whole frames; returns where the first that isn't whole begins. */
  frames(b) {
    const end = b.length;
    let p = 0;
    while (end - p >= FRAME) {
      const wrong = C.frameError(b, p);
      if (wrong !== '') return this.fail(wrong);
      const next = p + FRAME + u32(b, p);
      if (next > end) {
        this.need = next - p;
        return p;
      }
      this.at = next;
      const problem = this.frame(b, p, next);
      if (problem !== '') return this.fail(problem);
      if (this.dead) return end;
      p = next;
    }
    this.need = FRAME;
    return p;
  }

  /** Takes one frame; returns what is wrong with it, or ''. */
  frame(b, p, next) {
    const type = b[p + 4], ended = b[p + 5] === C.END, id = u32(b, p + 8), at = p + FRAME;
    if (!this.greeted) {
      this.greeted = true;
      return type === C.HELLO ? C.helloError(b, at, next) : 'the first frame is not a hello';
    }
    switch (type) {
      case C.REQUEST: return this.request(b, at, next, id, ended);
      case C.DATA: {
        const x = mapGet(this.streams, id);
        return x === undefined ? '' : x.received(subarray(b, at, next), ended);
      }
      case C.WINDOW: mapGet(this.streams, id)?.granted(u32(b, at)); return '';
      case C.RESET:
        if (id === 0) { P.socketDestroy(this.socket); this.lost('the connection was reset'); return ''; }
        mapGet(this.streams, id)?.wasReset(b[at], utf8Slice(b, at + 1, next));
        return '';
      case C.PING: {
        const q = this.reserve(FRAME + 8);
        P.fill(this.out, subarray(b, at, next), putFrame(this.out, q, 8, C.PONG, 0, 0));
        return '';
      }
      case C.TRAILERS: {
        const trailers = C.readTrailers(b, at, next);
        if (typeof trailers === 'string') return trailers;
        const x = mapGet(this.streams, id);
        return x === undefined ? '' : x.receivedTrailers(trailers);
      }
      case C.RESPONSE: return 'a response from the requester';
      default: return type === C.HELLO ? C.helloError(b, at, next) : '';
    }
  }

  request(b, at, next, id, ended) {
    const limit = P.min(next, at + C.MAX_HEAD);
    const method = C.skipFields(b, at, limit);
    if (method < 0 || method >= limit || b[method] === 0) return 'request head is cut short';
    const target = method + 1 + b[method];
    if (target + 2 > limit) return 'request head is cut short';
    const headers = target + 2 + C.u16(b, target);
    const body = C.skipHeaders(b, headers, limit);
    if (body < 0) return 'request head is cut short or too long';
    if (this.draining) { this.reset(id, C.CODE.refused, 'this process is going'); return ''; }
    if (mapGet(this.streams, id) !== undefined) return `stream ${id} is open already`;
    const x = this.open(this, id);
    x.buf = b; x.fieldsAt = at; x.methodAt = method; x.targetAt = target; x.headersAt = headers;
    x.inEnded = ended;
    const rest = next - body;
    x.first = rest === 0 ? null : subarray(b, body, next);
    x.inWindow -= rest;
    this.starting = x;
    x.start();
    this.starting = null;
    if (!x.over) { mapSet(this.streams, id, x); this.pending(x); }
    return '';
  }

  fail(reason) {
    this.reset(0, C.CODE.protocol, reason);
    this.flush();
    P.socketEnd(this.socket);
    this.lost(reason);
    return 0;
  }

  /** Tells every open exchange that its requester is gone. */
  lost(reason) {
    if (this.dead) return;
    this.dead = true;
    mapForEach(this.streams, (x) => x.wasReset(C.CODE.cancelled, reason));
  }

  // Frames out.

  /** Room for n bytes of frames; returns where in this.out they go. */
  reserve(n) {
    if (this.used + n > this.out.length) {
      this.seal();
      this.out = P.alloc(P.max(POOL, n));
      this.used = this.from = 0;
    }
    const at = this.used;
    this.used += n;
    if (!this.reading && !this.scheduled) {
      this.scheduled = true;
      P.nextTick(this.flush);
    }
    return at;
  }

  seal() {
    if (this.used === this.from) return;
    this.segments[this.segments.length] = subarray(this.out, this.from, this.used);
    this.from = this.used;
  }

  flush() {
    this.scheduled = false;
    this.seal();
    const list = this.segments, s = this.socket;
    if (list.length === 0) return;
    this.segments = [];
    if (s.destroyed) return;
    if (list.length === 1) P.socketWrite(s, list[0]);
    else {
      P.socketCork(s);
      for (let i = 0; i < list.length; i++) P.socketWrite(s, list[i]);
      P.socketUncork(s);
    }
    // The kernel has it all: the buffer is free again. Else its bytes are
    // still to be read, and what follows goes behind them.
    if (P.socketPending(s) === 0) this.used = this.from = 0;
  }

  text(type, stream, s) {
    const n = P.byteLength(s), p = this.reserve(FRAME + n);
    P.utf8Write(this.out, s, putFrame(this.out, p, n, type, 0, stream), n);
  }

  reset(stream, code, reason) {
    const n = P.byteLength(reason), p = this.reserve(FRAME + 1 + n);
    const at = putFrame(this.out, p, n + 1, C.RESET, 0, stream);
    this.out[at] = code;
    if (n !== 0) P.utf8Write(this.out, reason, at + 1, n);
  }

  window(stream, credit) {
    const p = this.reserve(FRAME + 4);
    putU32(this.out, putFrame(this.out, p, 4, C.WINDOW, 0, stream), credit);
  }

  data(stream, chunk, ended) {
    const n = chunk.length, flags = ended ? C.END : 0;
    if (n <= COPY) {
      const p = this.reserve(FRAME + n);
      P.fill(this.out, chunk, putFrame(this.out, p, n, C.DATA, flags, stream));
      return;
    }
    const p = this.reserve(FRAME); // first: it may put another buffer in place
    putFrame(this.out, p, n, C.DATA, flags, stream);
    this.seal();
    this.segments[this.segments.length] = chunk;
  }

  /** Ends a stream with trailers, a flat array. */
  trailers(stream, flat) {
    const n = C.headersSize(flat), p = this.reserve(FRAME + n);
    C.putHeaders(this.out, putFrame(this.out, p, n, C.TRAILERS, C.END, stream), flat);
  }

  /** No new streams from now on; the open ones finish. */
  goaway(reason) {
    if (this.draining) return;
    this.draining = true;
    this.text(C.GOAWAY, 0, reason);
  }
}

module.exports = { Connection };
