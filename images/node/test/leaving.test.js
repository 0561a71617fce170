'use strict';
// A process that is to go, goes: what keeps it is what is in flight, and that
// is neither what nobody waits for any longer nor what never was.

const test = require('node:test');
const assert = require('node:assert');
const { serve } = require('./process.js');

function deadline(ms) {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(Date.now() + ms));
  return [8, b];
}

const silent = 'module.exports = (ctx, cb) => { if (ctx.query.go) cb(null, 1); }';

test('a request past its deadline keeps no leaving process, though nobody took it back', async () => {
  await using p = await serve(silent);
  p.client.open({ fields: [deadline(100)] });
  await p.client.sync();
  p.child.send({ op: 'stop' });
  assert.deepEqual(await p.exited, [0, null]);
});

test('nor does it count as in flight', async () => {
  await using p = await serve(silent);
  p.client.open({ fields: [deadline(-2000)] });
  p.client.open({ fields: [deadline(60000)] });
  p.client.open({});
  await p.client.sync();
  const pong = p.said(['pong']);
  p.child.send({ op: 'ping', n: 1 });
  assert.equal((await pong).inflight, 2);
});

test('a request whose end the code has forged keeps no leaving process past its deadline', async () => {
  await using p = await serve(`const fs = require('fs'); module.exports = (ctx, cb) => {
    const head = Buffer.from([5, 0, 0, 0, 3, 1, 0, 0, 1, 0, 0, 0, 200, 0, 0, 0, 0]);
    for (const h of process._getActiveHandles()) if (h._handle?.fd > 3) try { fs.writeSync(h._handle.fd, head); } catch {} }`);
  const forged = p.client.until((f) => f.type === 'RESPONSE');
  p.client.open({ fields: [deadline(100)] });
  assert.equal((await forged).end, true);
  p.child.send({ op: 'stop' });
  assert.deepEqual(await p.exited, [0, null]);
});

test('a PING is answered from the event loop, by a leaving process, too', async () => {
  await using p = await serve(`module.exports = (ctx, cb) => { if (ctx.query.spin) { const until = Date.now() + 200; while (Date.now() < until); cb(null, 'spun'); } }`);
  const order = [];
  p.client.on('frame', (f) => order.push(f.type));
  p.client.open({ target: '/?spin=1' });
  await p.client.sync();
  assert.deepEqual(order.filter((t) => t === 'RESPONSE' || t === 'PONG'), ['RESPONSE', 'PONG']);
  p.client.open({});
  const goaway = p.client.until((f) => f.type === 'GOAWAY');
  p.child.send({ op: 'stop' });
  await goaway;
  await p.client.sync();
});

test('what process.exit was given does not make its reason too long to tell', async () => {
  await using p = await serve('module.exports = (cb) => process.exit("x".repeat(1e6))');
  const leaving = p.said(['leaving']), goaway = p.client.until((f) => f.type === 'GOAWAY');
  p.client.open({});
  assert.equal((await leaving).reason.length, 1000);
  assert.equal((await goaway).reason.length, 1000);
});

test('one that is to make room closes its raw streams, and no plain request', async () => {
  await using p = await serve(`module.exports = (ctx, req, res) => {
    if (!req.headers.upgrade) { setTimeout(() => res.end('plain'), 1500); return; }
    req.socket.write('HTTP/1.1 101 X\\r\\nupgrade: echo\\r\\n\\r\\n'); req.socket.on('close', () => console.log('closed')); }`);
  const id = p.client.open({ headers: [['upgrade', 'echo']] }, '', false), raw = p.client.answer(id);
  await p.client.until((f) => f.type === 'RESPONSE' && f.stream === id);
  const pong = p.said(['pong']);
  p.child.send({ op: 'ping' });
  const { inflight, upgraded, still } = await pong;
  assert.deepEqual([inflight, upgraded, still >= 0], [1, 1, true]);
  const plain = p.client.request({});
  await p.client.sync();
  p.child.send({ op: 'stop', hangup: true });
  assert.equal((await raw).reset, undefined);
  await p.log((l) => l.m === 'closed');
  assert.equal((await plain).body.toString(), 'plain');
  assert.deepEqual(await p.exited, [0, null]);
});
