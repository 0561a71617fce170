'use strict';
// The harness against the test vectors that it shares with internal/frames.

const test = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { TYPES, decode } = require('./client.js');

// The harness writes with node:net's methods as they are when it is loaded. So
// this is the moment to listen in: what these connections send is kept here.
const net = require('node:net');
const written = [];
const { Connection } = listeningIn(() => require('../harness/frames.js'));
const { Exchange } = require('../harness/exchange.js');
const C = require('../harness/codec.js');

function listeningIn(load) {
  const fakes = { write: (b) => written.push(Buffer.from(b)), end() {}, cork() {}, uncork() {}, destroy() {} }, real = {};
  for (const name of Object.keys(fakes)) {
    real[name] = Object.getOwnPropertyDescriptor(net.Socket.prototype, name);
    net.Socket.prototype[name] = fakes[name];
  }
  try {
    return load();
  } finally {
    for (const name of Object.keys(fakes)) {
      if (real[name] === undefined) delete net.Socket.prototype[name];
      else Object.defineProperty(net.Socket.prototype, name, real[name]);
    }
  }
}

const vectors = JSON.parse(fs.readFileSync(path.join(__dirname, '../../../internal/frames/testdata/vectors.json')));
const HELLO = Buffer.from('0a00000001000000000000004248460172756e6e6572', 'hex');

/** A connection over nothing, and what its exchanges were told. */
function connection() {
  const socket = new net.Socket(), heard = [];
  class X extends Exchange {
    start() { heard.push(['start', this]); }
    body(chunk, ended, trailers) { heard.push(['body', this.id, chunk.toString('hex'), ended, trailers]); }
    gone(code, reason) { heard.push(['gone', this.id, code, reason]); }
  }
  const conn = new Connection(socket, 'function', { open: (c, id) => new X(c, id), closed() {}, drained() {}, pending() {} });
  conn.flush();
  written.length = 0;
  return { conn, heard };
}

function out(conn) {
  conn.flush();
  return Buffer.concat(written.splice(0)).toString('hex');
}

function withFrames(type, each) {
  for (const v of vectors.frames) if (v.frame.type === type) test(v.name, () => each(v, v.frame, Buffer.from(v.hex, 'hex')));
}

withFrames('REQUEST', (v, want, bytes) => {
  const { conn, heard } = connection();
  conn.feed(Buffer.concat([HELLO, bytes]));
  assert.equal(out(conn), '', 'nothing is wrong with it');
  const x = heard[0][1];
  assert.equal(x.id, want.stream);
  assert.equal(x.inEnded, want.end);
  assert.equal(x.method, want.method);
  assert.equal(x.target, want.target);
  assert.deepEqual(C.readHeaders(x.buf, x.headersAt), want.headers.flat());
  for (const [id, hex] of want.fields) assert.equal(x.field(id), Buffer.from(hex, 'hex').toString());
  assert.equal((x.first ?? Buffer.alloc(0)).toString('hex'), want.body);
  for (const [name, value] of want.headers) {
    const first = want.headers.find(([n]) => n === name)[1];
    assert.equal(x.header(name), first, `the first ${name}, not ${value}`);
  }
});

withFrames('RESPONSE', (v, want) => {
  const { conn } = connection();
  const x = new Exchange(conn, want.stream);
  x.upgraded = want.status < 200; // the codec has no opinion on who may say so
  const cause = want.fields.length === 0 ? '' : Buffer.from(want.fields[0][1], 'hex').toString();
  x.respond(want.status, cause, want.headers.flat(), want.body === '' ? null : Buffer.from(want.body, 'hex'), want.end);
  assert.equal(out(conn), v.hex);
});

withFrames('DATA', (v, want) => {
  const { conn } = connection();
  new Exchange(conn, want.stream).send(Buffer.from(want.body, 'hex'), want.end, null);
  assert.equal(out(conn), v.hex);
});

withFrames('TRAILERS', (v, want, bytes) => {
  const { conn, heard } = connection();
  new Exchange(conn, want.stream).sendTrailers(want.headers.flat(), () => {});
  assert.equal(out(conn), v.hex);
  const request = Buffer.from('100000000200000000000000000347455401002f0000', 'hex');
  request.writeUInt32LE(request.length - 12, 0);
  request.writeUInt32LE(want.stream, 8);
  conn.feed(Buffer.concat([HELLO, request, bytes]));
  assert.equal(out(conn), '');
  assert.deepEqual(heard.slice(1), [['body', want.stream, '', true, want.headers.flat()]]);
});

withFrames('WINDOW', (v, want) => {
  const { conn } = connection();
  conn.window(want.stream, want.credit);
  assert.equal(out(conn), v.hex);
});

withFrames('RESET', (v, want) => {
  const { conn } = connection();
  conn.reset(want.stream, want.code, want.reason);
  assert.equal(out(conn), v.hex);
});

withFrames('GOAWAY', (v, want) => {
  const { conn } = connection();
  conn.goaway(want.reason);
  assert.equal(out(conn), v.hex);
});

withFrames('PING', (v, want, bytes) => {
  const { conn } = connection();
  conn.feed(Buffer.concat([HELLO, bytes]));
  assert.equal(out(conn), bytes.toString('hex').replace(/^0800000008/, '0800000009'), 'a pong of the same bytes');
});

withFrames('HELLO', (v, want, bytes) => {
  const { conn } = connection();
  conn.feed(bytes);
  assert.equal(out(conn), '');
});

test('frames decode the same wherever the stream is cut', () => {
  const inbound = vectors.frames.filter((v) => v.frame.type !== 'RESPONSE' && !(v.frame.type === 'RESET' && v.frame.stream === 0));
  const seen = new Set(), kept = [HELLO];
  for (const v of inbound) { // a stream's id is used once, data goes to streams that are open
    if (v.frame.type === 'REQUEST') { if (seen.has(v.frame.stream)) continue; seen.add(v.frame.stream); }
    if (v.frame.type === 'DATA' || v.frame.type === 'TRAILERS') continue;
    kept.push(Buffer.from(v.hex, 'hex'));
  }
  const all = Buffer.concat(kept);
  const tell = ({ heard, conn }) => JSON.stringify([heard.map(([k, x, ...rest]) => (k === 'start' ? [x.id, x.method, x.target, C.readHeaders(x.buf, x.headersAt), (x.first ?? '').toString('hex')] : [k, x, ...rest])), out(conn)]);
  const whole = connection();
  whole.conn.feed(all);
  const want = tell(whole);
  assert.ok(whole.heard.length > 5);
  for (let cut = 1; cut < all.length; cut++) {
    const c = connection();
    c.conn.feed(all.subarray(0, cut));
    c.conn.feed(all.subarray(cut));
    assert.equal(tell(c), want, `cut at ${cut}`);
  }
  const drops = connection();
  for (const b of all) drops.conn.feed(Buffer.from([b]));
  assert.equal(tell(drops), want, 'a byte at a time');
});

for (const v of vectors.bad) {
  // What only a requester receives, the harness refuses as such.
  test(`bad: ${v.name}`, () => {
    const { conn } = connection();
    conn.feed(HELLO);
    conn.feed(Buffer.from(v.hex, 'hex'));
    const sent = Buffer.from(out(conn), 'hex');
    assert.ok(sent.length >= 13, 'it answers');
    const f = decode(sent);
    assert.deepEqual([f.type, f.stream, f.code], ['RESET', 0, 6]);
    assert.ok(f.reason.length > 5, `in words: ${f.reason}`);
  });
}

/** Bytes that are nearly frames: vectors changed, cut, repeated, out of order,
 * and now and then noise. The same in every run. */
function nearly(seed) {
  const random = (n) => { seed = (Math.imul(seed, 1103515245) + 12345) >>> 0; return (seed >>> 8) % n; };
  const good = [...vectors.frames, ...vectors.bad].map((v) => Buffer.from(v.hex, 'hex'));
  const piece = () => {
    if (random(16) === 0) return Buffer.from(Array.from({ length: random(64) }, () => random(256)));
    const f = Buffer.from(good[random(random(4) === 0 ? good.length : vectors.frames.length)]);
    if (f.length > 12 && random(2) === 0) f.writeUInt32LE(1 + random(4), 8); // streams meet each other
    for (let m = random(4); m > 0; m--) f[random(f.length)] = random(256);
    return random(8) === 0 ? f.subarray(0, random(f.length)) : f;
  };
  return () => {
    const all = Buffer.concat([HELLO, ...Array.from({ length: 1 + random(6) }, piece)]);
    return [all, random(all.length)];
  };
}

/** Fails unless bytes are frames that docs/frames.md allows; returns whether
 * the connection was given up. */
function onlyFrames(bytes, round) {
  let over = false;
  while (bytes.length !== 0) {
    assert.ok(bytes.length >= 12 && C.frameError(bytes, 0) === '', `round ${round}: what it sent is no frame`);
    assert.ok(!over, `round ${round}: nothing follows the end`);
    const f = decode(bytes);
    over = f.type === 'RESET' && f.stream === 0;
    bytes = bytes.subarray(12 + bytes.readUInt32LE(0));
  }
  return over;
}

test('no bytes make the harness throw, or answer with anything but frames', () => {
  const next = nearly(42);
  let given = 0;
  for (let round = 0; round < 20000; round++) {
    const { conn } = connection(), [all, cut] = next();
    conn.feed(all.subarray(0, cut));
    conn.feed(all.subarray(cut));
    const over = onlyFrames(Buffer.from(out(conn), 'hex'), round);
    if (over) assert.ok(conn.dead, `round ${round}: it goes on after a RESET of the connection`);
    if (over) given++;
    if (conn.dead) assert.equal(conn.streams.size, 0, `round ${round}: a stream outlives its connection`);
    else assert.ok(conn.have < 131072 + 12, `round ${round}: it holds more than a frame`);
  }
  assert.ok(given > 2000 && given < 18000, `${given} of 20000 were given up`);
});

for (const [name, fn] of [
  ['(ctx, cb)', (ctx, cb) => cb(null, [ctx.data, ctx.body, ctx.headers, ctx.id])],
  ['(ctx, req, res)', (ctx, req, res) => { req.on('error', () => {}); res.on('error', () => {}); req.pipe(res); }],
  ['fetch', { fetch: (request) => new Response(request.body, { headers: { 'x-url': encodeURI(request.url) } }) }],
]) {
  test(`nor when code serves them: ${name}`, async () => {
    const { Invocation, served } = require('../harness/invocation.js'), { model } = require('../harness/models.js');
    Object.assign(served, model(fn), { caught(e) { throw e; } });
    const next = nearly(7);
    for (let round = 0; round < 3000; round++) {
      const conn = new Connection(new net.Socket(), 'function', { open: (c, id) => new Invocation(c, id), closed() {}, drained() {}, pending() {} });
      conn.flush();
      written.length = 0;
      const [all, cut] = next();
      conn.feed(all.subarray(0, cut));
      conn.feed(all.subarray(cut));
      await new Promise((go) => { setImmediate(go); });
      onlyFrames(Buffer.from(out(conn), 'hex'), round);
      conn.lost('the round is over');
      assert.equal(conn.streams.size, 0);
    }
  });
}

test('the first frame must be a hello', () => {
  const { conn } = connection();
  conn.feed(Buffer.from(vectors.frames.find((v) => v.frame.type === 'PING').hex, 'hex'));
  assert.match(Buffer.from(out(conn), 'hex').toString('latin1'), /not a hello/);
});

test('every type has a vector', () => {
  for (const t of TYPES.slice(1)) assert.ok(vectors.frames.some((v) => v.frame.type === t), t);
});
