'use strict';
// res of (ctx, req, res): node:http's ServerResponse, with methods of its own
// that write to an exchange. See http.js for why they are own properties.

const http = require('node:http');
const { EventEmitter } = require('node:events');
const P = require('./primordials.js');
const { CODE, MAX_HEAD, headersSize, mayTrail } = require('./codec.js');
const { checkStatus } = require('./exchange.js');
const { INV, Upgraded } = require('./peer.js');

const { ServerResponse, OutgoingMessage } = http;
const emit = P.uncurry(EventEmitter.prototype.emit);
const setHeader = P.uncurry(OutgoingMessage.prototype.setHeader);
const appendHeader = P.uncurry(OutgoingMessage.prototype.appendHeader);
const { validateHeaderName, validateHeaderValue } = http;
const getHeaders = P.uncurry(OutgoingMessage.prototype.getHeaders);
const STATUS = P.assign({}, http.STATUS_CODES);
const EMPTY = P.alloc(0);
const TRAILERS = Symbol('trailers');

function newResponse(inv, peer, req) {
  const res = new ServerResponse(req);
  res[INV] = inv;
  res.socket = peer;
  res._closed = false;
  res.writeHead = writeHead;
  res.write = write;
  res.end = end;
  res.addTrailers = addTrailers;
  res.flushHeaders = flushHeaders;
  res.destroy = destroyResponse;
  res.writeContinue = res.writeProcessing = res.writeEarlyHints = nothing;
  inv.response = new Outgoing(inv, res);
  return res;
}

/** What an invocation tells the res it made. */
class Outgoing {
  constructor(inv, res) {
    this.inv = inv;
    this.res = res;
    this.pending = 0;     // writes that have not left
    this.waiting = false; // write() has returned false
  }

  sent() {
    if (--this.pending !== 0 || !this.waiting) return;
    this.waiting = false;
    if (!this.res.finished) emit(this.res, 'drain');
  }

  /** The harness has answered in the code's place. */
  replaced() { this.res._header = 'sent'; this.res.finished = true; }

  gone() { close(this.res); }
}

function writeHead(status, reason, headers) {
  if (this._header) throw headersSent('write');
  if (typeof reason !== 'string') { headers = reason; reason = undefined; }
  status |= 0;
  checkStatus(status);
  if (headers) putAll(this, headers);
  this.statusCode = status;
  this.statusMessage = reason ?? this.statusMessage ?? STATUS[status] ?? 'unknown';
  this._header = 'ready';
  return this;
}

function putAll(res, headers) {
  if (!P.isArray(headers)) {
    const names = P.keys(headers);
    for (let i = 0; i < names.length; i++) setHeader(res, names[i], headers[names[i]]);
  } else if (P.isArray(headers[0])) {
    for (let i = 0; i < headers.length; i++) setHeader(res, headers[i][0], headers[i][1]);
  } else {
    for (let i = 0; i < headers.length; i += 2) res.removeHeader(headers[i]);
    for (let i = 0; i < headers.length; i += 2) appendHeader(res, headers[i], headers[i + 1]);
  }
}

function write(chunk, encoding, done) {
  if (typeof encoding === 'function') { done = encoding; encoding = undefined; }
  const inv = this[INV];
  if (this.finished) return late(this, done);
  if (chunk === null || chunk === undefined) throw new P.TypeError('The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.');
  const first = begin(this), bytes = bytesOf(chunk, encoding);
  if (!bodyless(this) && bytes.length !== 0) sendHeadAndBody(this, first, bytes, false, done);
  else { if (first) sendHeadAndBody(this, true, null, false, null); if (done) P.nextTick(done); }
  const full = inv.queue !== null;
  if (full) inv.response.waiting = true;
  return !full;
}

function end(chunk, encoding, done) {
  if (typeof chunk === 'function') { done = chunk; chunk = encoding = undefined; }
  else if (typeof encoding === 'function') { done = encoding; encoding = undefined; }
  const inv = this[INV];
  if (this.finished) { if (done) late(this, done); return this; }
  if (done) this.once('finish', done);
  const whole = !this._header || !inv.headSent;
  if (whole && (typeof chunk === 'string' || chunk === undefined || chunk === null || P.isView(chunk))) lengthOf(this, chunk, encoding);
  const first = begin(this);
  inv.done = true;
  let body = chunk === undefined || chunk === null ? null : plainText(encoding) && typeof chunk === 'string' && first ? chunk : bytesOf(chunk, encoding);
  if (bodyless(this)) body = null;
  this.finished = true;
  try {
    sendHeadAndBody(this, first, body, true, () => finished(this));
  } catch (e) { // headers too large: the error becomes the answer
    this.finished = inv.done = false;
    throw e;
  }
  return this;
}

/** Makes sure that there is a head; true when it has not gone out yet. */
function begin(res) {
  if (!res._header) res.writeHead(res.statusCode);
  return !res[INV].headSent;
}

function sendHeadAndBody(res, first, body, ended, sent) {
  const inv = res[INV];
  if (inv.over) { if (sent) P.nextTick(sent); return; }
  const callback = () => { if (sent) sent(); inv.response.sent(); };
  inv.response.pending++;
  if (ended && trails(res)) { sendWithTrailers(res, first, body, callback); return; }
  if (!first) { inv.send(body ?? EMPTY, ended, callback); return; }
  inv.respond(res.statusCode, '', flatHeaders(res), body, ended);
  if (inv.queue !== null) inv.queue[inv.queue.length - 1].sent = callback;
  else P.nextTick(callback);
}

/** Whether trailers follow; as with node:http, not after a body whose length
 * was told. */
function trails(res) { return res[TRAILERS] !== undefined && !bodyless(res) && !res.hasHeader('content-length'); }

function sendWithTrailers(res, first, body, sent) {
  const inv = res[INV];
  if (first) inv.respond(res.statusCode, '', flatHeaders(res), body, false);
  else if (body !== null) inv.send(typeof body === 'string' ? P.from(body) : body, false, null);
  inv.sendTrailers(res[TRAILERS], sent);
}

function addTrailers(headers) {
  const flat = this[TRAILERS] ?? [], pairs = P.isArray(headers), names = pairs ? headers : P.keys(headers);
  for (let i = 0; i < names.length; i++) {
    const name = pairs ? names[i][0] : names[i], value = pairs ? names[i][1] : headers[name];
    validateHeaderName(name);
    validateHeaderValue(name, value);
    if (!mayTrail(P.toLowerCase(name))) continue;
    flat[flat.length] = P.toLowerCase(name);
    flat[flat.length] = `${value}`;
  }
  if (headersSize(flat) > MAX_HEAD) throw new P.Error(`trailers take ${headersSize(flat)} bytes, at most ${MAX_HEAD} are allowed`);
  this[TRAILERS] = flat;
}

function flatHeaders(res) {
  const headers = getHeaders(res), names = P.keys(headers), flat = [];
  let n = 0;
  for (let i = 0; i < names.length; i++) {
    const name = names[i], value = headers[name];
    if (name === 'connection' || name === 'transfer-encoding' || name === 'keep-alive') continue;
    if (P.isArray(value)) for (let j = 0; j < value.length; j++) { flat[n++] = name; flat[n++] = `${value[j]}`; }
    else { flat[n++] = name; flat[n++] = `${value}`; }
  }
  return flat;
}

/** A response whose first bytes are its last ones has a length to tell. */
function lengthOf(res, chunk, encoding) {
  if (res._header || res[TRAILERS] !== undefined || res.hasHeader('content-length') || res.statusCode === 204 || res.statusCode === 304) return;
  const n = chunk === undefined || chunk === null ? 0 : typeof chunk === 'string' ? P.byteLength(chunk, encoding) : chunk.byteLength;
  if (n !== 0 || !res[INV].isHead) setHeader(res, 'content-length', n);
}

function plainText(encoding) { return encoding === undefined || encoding === null || encoding === 'utf8' || encoding === 'utf-8'; }

function bytesOf(chunk, encoding) {
  if (typeof chunk === 'string') return P.from(chunk, encoding);
  if (P.isView(chunk)) return chunk instanceof P.Uint8Array ? chunk : P.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  throw new P.TypeError('The "chunk" argument must be of type string or an instance of Buffer or Uint8Array.');
}

function bodyless(res) {
  return res[INV].isHead || res.statusCode === 204 || res.statusCode === 304;
}

function flushHeaders() {
  if (begin(this)) sendHeadAndBody(this, true, null, false, null);
}

function finished(res) {
  emit(res, 'prefinish');
  emit(res, 'finish');
  close(res);
}

function close(res) {
  if (res._closed) return;
  res._closed = res.destroyed = true;
  emit(res, 'close');
  if (res.socket instanceof Upgraded) return; // has a life, and a 'close', of its own
  res.socket.writable = false;
  emit(res.socket, 'close');
}

function destroyResponse(err) {
  if (this.destroyed) return this;
  this.destroyed = true;
  const inv = this[INV];
  inv.done = true;
  inv.abort(CODE.internal, 'the code destroyed its response');
  P.nextTick(() => { if (err && this.listenerCount('error') > 0) emit(this, 'error', err); close(this); });
  return this;
}

function late(res, done) {
  const e = new P.Error('write after end');
  e.code = 'ERR_STREAM_WRITE_AFTER_END';
  if (done) P.nextTick(done, e);
  else P.nextTick(() => { if (res.listenerCount('error') > 0) emit(res, 'error', e); });
  return false;
}

function headersSent(what) {
  const e = new P.Error(`Cannot ${what} headers after they are sent to the client`);
  e.code = 'ERR_HTTP_HEADERS_SENT';
  return e;
}

function nothing() {}

module.exports = { newResponse };
