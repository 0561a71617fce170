'use strict';
// (ctx, req, res): node:http's own IncomingMessage and ServerResponse without
// a connection of their own. What differs from node:http are own properties
// of the objects, not methods of a subclass, because express puts its own
// prototypes (made from http.IncomingMessage.prototype) in our place.

const http = require('node:http');
const { EventEmitter } = require('node:events');
const { Readable } = require('node:stream');
const P = require('./primordials.js');
const C = require('./codec.js');
const { Context } = require('./context.js');
const { peerOf, Upgraded, INV } = require('./peer.js');
const { newResponse } = require('./response.js');

const { FIELD } = C;
const { IncomingMessage } = http;
const emit = P.uncurry(EventEmitter.prototype.emit);
const push = P.uncurry(Readable.prototype.push);
const addLines = P.uncurry(IncomingMessage.prototype._addHeaderLines); // of a complete message: its trailers
const HEADERS_COUNT = symbolOf(new IncomingMessage(null), 'kHeadersCount'); // req.headers reads so many of rawHeaders

/** Returns invoke(inv) for a function of (ctx, req, res). */
function invoker(fn) {
  return (inv) => {
    const peer = peerOf(inv), req = newRequest(inv, peer), res = newResponse(inv, peer, req);
    const result = fn(new Context(inv), req, res);
    if (result !== null && typeof result === 'object' && typeof result.then === 'function') {
      result.then(undefined, (e) => inv.fail(e, 500, 'Script generated an unhandled promise rejection.', 'exception'));
    }
  };
}

function newRequest(inv, peer) {
  const req = new IncomingMessage(peer);
  req[INV] = inv;
  req.httpVersion = '1.1';
  req.httpVersionMajor = req.httpVersionMinor = 1;
  req.method = inv.method;
  req.rawHeaders = C.readHeaders(inv.buf, inv.headersAt);
  if (inv.header('host') === undefined) {
    const host = inv.field(FIELD.authority);
    if (host !== undefined) { req.rawHeaders[req.rawHeaders.length] = 'host'; req.rawHeaders[req.rawHeaders.length] = host; }
  }
  req[HEADERS_COUNT] = req.rawHeaders.length;
  mount(req, inv.target, inv.field(FIELD.base));
  req._read = readMore;
  req._destroy = destroyRequest;
  const raw = inv.raw;
  if (inv.inEnded || peer instanceof Upgraded) { // what follows an upgrade is not the request's body
    req.complete = true;
    const body = raw ?? inv.first;
    if (body !== null && body.length !== 0) push(req, body);
    push(req, null);
  } else {
    inv.request = new Incoming(inv, req);
    if (inv.first !== null) inv.request.arrived(inv.first, false, null);
  }
  return req;
}

/** The function sees the path below its own name, as an app mounted there. */
function mount(req, target, base) {
  req.originalUrl = target;
  req.baseUrl = '';
  req.url = target;
  if (base === undefined || base === '' || base === '/' || !P.startsWith(target, base)) return;
  const rest = P.slice(target, base.length);
  if (rest !== '' && rest[0] !== '/' && rest[0] !== '?') return;
  req.baseUrl = base;
  req.url = rest[0] === '/' ? rest : `/${rest}`;
}

/** Passes a streaming body on to req, and grants what req has room for. */
class Incoming {
  constructor(inv, req) {
    this.inv = inv;
    this.req = req;
    this.held = 0; // bytes in req's buffer that we have not granted again
  }

  arrived(chunk, ended, trailers) {
    if (this.req.destroyed) { this.inv.grant(chunk.length); return; }
    if (chunk.length !== 0) {
      if (push(this.req, chunk)) this.inv.grant(chunk.length);
      else this.held += chunk.length;
    }
    if (!ended) return;
    this.req.complete = true;
    if (trailers !== null) addLines(this.req, trailers, trailers.length);
    push(this.req, null);
  }

  more() {
    const n = this.held;
    this.held = 0;
    if (n !== 0) this.inv.grant(n);
  }

  gone() {
    if (this.req.destroyed || this.req.complete) return;
    this.req.aborted = true;
    emit(this.req, 'aborted');
    this.req.destroy(this.req.listenerCount('error') > 0 ? reset() : undefined);
  }
}

function readMore() {
  if (!this._consuming) {
    this._readableState.readingMore = false;
    this._consuming = true;
  }
  this[INV].request?.more();
}

function destroyRequest(err, done) {
  const inv = this[INV];
  if (inv.request !== null && !this.complete) inv.request.more();
  P.nextTick(done, err);
}

function reset() {
  const e = new P.Error('aborted');
  e.code = 'ECONNRESET';
  return e;
}

function symbolOf(object, description) {
  const found = Object.getOwnPropertySymbols(object).find((s) => s.description === description);
  if (found === undefined) throw new P.Error(`node:http has no ${description}`);
  return found;
}

module.exports = { invoker };
