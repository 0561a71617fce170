'use strict';
// What req.socket is: not a socket, but what code asks one for. For a request
// that would switch protocols it is the stream of raw bytes that a package
// like ws takes over: it writes its own HTTP head there.

const { EventEmitter } = require('node:events');
const { validateHeaderName, validateHeaderValue } = require('node:http');
const { Duplex } = require('node:stream');
const P = require('./primordials.js');
const C = require('./codec.js');

const { FIELD, CODE } = C;
const INV = Symbol('invocation');
const STATUS = /^HTTP\/1\.[01] ([0-9]{3})(?: |$)/, NO_HEAD = 'what was written to the socket is no HTTP response';
const EMPTY = P.alloc(0);

class Peer extends EventEmitter {
  constructor(inv) {
    super();
    this[INV] = inv;
    this.readable = this.writable = true;
    this.destroyed = false;
    this.writableLength = 0;
    this.readableHighWaterMark = this.writableHighWaterMark = 65536;
  }

  resume() { return this; }
  pause() { return this; }
  cork() {}
  uncork() {}

  destroy() {
    this[INV].abort(CODE.cancelled, 'the code destroyed the socket');
    this.destroyed = true;
    return this;
  }
}

/** The raw connection of a request with an upgrade header. Its first bytes out
 * are an HTTP head, which becomes a RESPONSE; with status 101 the rest, both
 * ways, is the new protocol's. */
class Upgraded extends Duplex {
  #head = '';
  #answered = false;
  #held = 0;

  constructor(inv) {
    super({ allowHalfOpen: false, decodeStrings: true });
    this[INV] = inv;
    inv.request = this;
  }

  _write(chunk, encoding, done) {
    if (this.#answered) { this[INV].moved = P.now(); this[INV].send(chunk, false, done); return; }
    this.#head += P.latin1Slice(chunk, 0, chunk.length);
    const end = P.indexOf(this.#head, '\r\n\r\n');
    if (end < 0) { done(this.#head.length > C.MAX_HEAD ? new P.Error(NO_HEAD) : null); return; }
    const rest = P.from(P.slice(this.#head, end + 4), 'latin1');
    try {
      this.#respond(P.split(P.slice(this.#head, 0, end), '\r\n'));
    } catch (e) { // only this stream's affair
      done(e);
      return;
    }
    if (rest.length !== 0) this[INV].send(rest, false, done); else done();
  }

  /** Answers with a head; throws where it is none. */
  #respond(lines) {
    const match = P.exec(STATUS, lines[0]), status = match === null ? 0 : +match[1], headers = [];
    if (status !== 101 && status < 200) throw new P.Error(NO_HEAD);
    for (let i = 1; i < lines.length; i++) {
      const colon = P.indexOf(lines[i], ':'), name = P.toLowerCase(P.slice(lines[i], 0, P.max(colon, 0)));
      const value = P.trim(P.slice(lines[i], colon + 1));
      validateHeaderName(name);
      validateHeaderValue(name, value);
      if (name.length > 255) throw new P.Error(NO_HEAD);
      if (name === 'connection' || name === 'transfer-encoding') continue;
      headers[headers.length] = name;
      headers[headers.length] = value;
    }
    const inv = this[INV];
    inv.upgraded = status === 101;
    inv.moved = P.now();
    inv.respond(status, '', headers, null, false);
    this.#answered = inv.done = true;
  }

  _final(done) {
    if (this.#answered) this[INV].send(EMPTY, true, null);
    this.push(null); // with our end the stream is gone, both ways
    done();
  }

  _read() {
    const n = this.#held;
    this.#held = 0;
    if (n !== 0) this[INV].grant(n);
  }

  _destroy(err, done) {
    this[INV].request = null;
    this[INV].abort(CODE.cancelled, 'the code destroyed the socket');
    done(err);
  }

  // What the invocation tells its request.
  arrived(chunk, ended) {
    if (chunk.length !== 0) {
      this[INV].moved = P.now();
      if (this.push(chunk)) this[INV].grant(chunk.length);
      else this.#held += chunk.length;
    }
    if (ended) this.push(null);
  }

  more() {}

  gone() { this.destroy(); }
}

for (const c of [Peer, Upgraded]) {
  const get = (name, value) => P.defineProperty(c.prototype, name, { __proto__: null, configurable: true, get: value });
  get('encrypted', function encrypted() { return this[INV].field(FIELD.scheme) === 'https'; });
  get('remoteAddress', function remoteAddress() { return address(this)[0]; });
  get('remotePort', function remotePort() { return address(this)[1]; });
  get('remoteFamily', function remoteFamily() { return P.includes(this.remoteAddress ?? '', ':') ? 'IPv6' : 'IPv4'; });
  c.prototype.address = function address() { return {}; };
  for (const name of ['setTimeout', 'setKeepAlive', 'setNoDelay', 'ref', 'unref']) c.prototype[name] = function noop() { return this; };
}

function address(peer) {
  const m = /^\[?(.*?)\]?:(\d+)$/.exec(peer[INV].field(FIELD.client) ?? '');
  return m === null ? [undefined, undefined] : [m[1], +m[2]];
}

/** The peer for an invocation's req and res. */
function peerOf(inv) {
  return inv.upgrades ? new Upgraded(inv) : new Peer(inv);
}

module.exports = { peerOf, Upgraded, INV };
