'use strict';
// A requester for tests: speaks docs/frames.md over a unix socket, written
// apart from the harness's own codec where that matters (decoding).

const net = require('node:net');
const { EventEmitter } = require('node:events');

const TYPES = [, 'HELLO', 'REQUEST', 'RESPONSE', 'DATA', 'WINDOW', 'RESET', 'GOAWAY', 'PING', 'PONG', 'TRAILERS'];

/** One frame as bytes. */
function frame(type, stream, payload, end = false) {
  const head = Buffer.alloc(12);
  head.writeUInt32LE(payload.length, 0);
  head[4] = TYPES.indexOf(type);
  head[5] = end ? 1 : 0;
  head.writeUInt32LE(stream, 8);
  return Buffer.concat([head, payload]);
}

function fields(list) {
  return Buffer.concat([Buffer.from([list.length]), ...list.map(([id, value]) => {
    const v = Buffer.from(value), h = Buffer.alloc(3);
    h[0] = id;
    h.writeUInt16LE(v.length, 1);
    return Buffer.concat([h, v]);
  })]);
}

function sized(text, bytes) {
  const v = Buffer.from(text, 'latin1'), n = Buffer.alloc(bytes);
  n.writeUIntLE(v.length, 0, bytes);
  return Buffer.concat([n, v]);
}

function headers(list) {
  const n = Buffer.alloc(2);
  n.writeUInt16LE(list.length);
  return Buffer.concat([n, ...list.flatMap(([name, value]) => [sized(name, 1), sized(value, 2)])]);
}

function requestHead({ fields: f = [], method = 'GET', target = '/', headers: h = [] }) {
  return Buffer.concat([fields(f), sized(method, 1), sized(target, 2), headers(h)]);
}

/** Decodes the frame at the start of b, whose length is known to fit. */
function decode(b) {
  const type = TYPES[b[4]], stream = b.readUInt32LE(8), end = b[5] === 1, p = b.subarray(12, 12 + b.readUInt32LE(0));
  const f = { type, end, stream };
  if (type === 'DATA') f.body = p;
  else if (type === 'WINDOW') f.credit = p.readUInt32LE(0);
  else if (type === 'RESET') { f.code = p[0]; f.reason = p.toString('utf8', 1); }
  else if (type === 'GOAWAY') f.reason = p.toString();
  else if (type === 'PING' || type === 'PONG') f.data = p;
  else if (type === 'HELLO') { f.version = p[3]; f.role = p.toString('latin1', 4); }
  else if (type === 'RESPONSE') responseHead(f, p);
  else if (type === 'TRAILERS') readHeaders(p, 0, f.headers = []);
  return f;
}

function readHeaders(p, at, list) {
  const count = p.readUInt16LE(at);
  at += 2;
  for (let i = 0; i < count; i++) {
    const name = p.toString('latin1', at + 1, at + 1 + p[at]);
    at += 1 + p[at];
    const n = p.readUInt16LE(at);
    list.push([name, p.toString('latin1', at + 2, at + 2 + n)]);
    at += 2 + n;
  }
  return at;
}

function responseHead(f, p) {
  f.status = p.readUInt16LE(0);
  f.fields = [];
  f.headers = [];
  let at = 3;
  for (let i = 0; i < p[2]; i++) {
    const n = p.readUInt16LE(at + 1);
    f.fields.push([p[at], p.toString('utf8', at + 3, at + 3 + n)]);
    at += 3 + n;
  }
  f.body = p.subarray(readHeaders(p, at, f.headers));
}

/** A connection; emits every frame as 'frame', and grants nothing by itself. */
class Client extends EventEmitter {
  constructor(path) {
    super();
    this.setMaxListeners(0);
    this.next = 1;
    this.socket = net.connect(path);
    let have = Buffer.alloc(0);
    this.socket.on('error', () => {});
    this.socket.on('close', () => this.emit('lost'));
    this.socket.on('data', (chunk) => {
      have = have.length === 0 ? chunk : Buffer.concat([have, chunk]);
      while (have.length >= 12 && have.length >= 12 + have.readUInt32LE(0)) {
        const size = 12 + have.readUInt32LE(0), f = decode(have);
        have = have.subarray(size);
        this.emit('frame', f);
      }
    });
    this.send(frame('HELLO', 0, Buffer.from('BHF\x01runner', 'latin1')));
  }

  send(bytes) { this.socket.write(bytes); }
  close() { this.socket.destroy(); }

  /** Opens a stream and returns its id. */
  open(head, body = Buffer.alloc(0), end = true) {
    const id = this.next++;
    this.send(frame('REQUEST', id, Buffer.concat([requestHead(head), Buffer.from(body)]), end));
    return id;
  }

  /** Resolves when the function process has read all that was sent. */
  async sync() {
    const pong = this.until((f) => f.type === 'PONG');
    this.send(frame('PING', 0, Buffer.from('12345678')));
    if ((await pong).data.toString() !== '12345678') throw new Error('the pong is not the ping');
  }

  trailers(id, list) { this.send(frame('TRAILERS', id, headers(list), true)); }
  data(id, body, end = false) { this.send(frame('DATA', id, Buffer.from(body), end)); }
  window(id, credit) { const b = Buffer.alloc(4); b.writeUInt32LE(credit); this.send(frame('WINDOW', id, b)); }
  reset(id, code, reason = '') { this.send(frame('RESET', id, Buffer.from(String.fromCharCode(code) + reason))); }

  /** Resolves with the next frame for which test is true. */
  until(test) {
    return new Promise((resolve, reject) => {
      const off = () => this.off('frame', take).off('lost', lost);
      const take = (f) => { if (test(f)) { off(); resolve(f); } };
      const lost = () => { off(); reject(new Error('connection lost')); };
      this.on('frame', take).on('lost', lost);
    });
  }

  /** The whole answer of a stream: { status, headers, cause, body, reset }. */
  answer(id, { grant = true } = {}) {
    return new Promise((resolve, reject) => {
      const out = { status: 0, headers: {}, cause: undefined, body: Buffer.alloc(0), reset: undefined }, parts = [];
      const done = () => { this.off('frame', take).off('lost', lost); out.body = Buffer.concat(parts); resolve(out); };
      const lost = () => reject(new Error('connection lost'));
      const take = (f) => {
        if (f.stream !== id) return;
        if (f.type === 'RESET') { out.reset = f; done(); return; }
        if (f.type === 'RESPONSE') {
          out.status = f.status;
          out.list = f.headers;
          out.headers = Object.fromEntries(f.headers);
          out.cause = f.fields.find(([i]) => i === 1)?.[1];
        }
        if (f.type === 'TRAILERS') { out.trailers = f.headers; done(); return; }
        if (f.type !== 'RESPONSE' && f.type !== 'DATA') return;
        parts.push(f.body);
        if (grant && f.body.length !== 0) this.window(id, f.body.length);
        if (f.end) done();
      };
      this.on('frame', take).once('lost', lost);
    });
  }

  /** One request and its answer. */
  request(head, body) { return this.answer(this.open(head, body)); }
}

module.exports = { Client, frame, fields, headers, requestHead, decode, TYPES };
