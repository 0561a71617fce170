'use strict';
// Real packages as judges: frameworks that patch, subclass and re-prototype
// req and res must find what they expect.

const test = require('node:test');
const assert = require('node:assert');
const crypto = require('node:crypto');
const zlib = require('node:zlib');
const { once } = require('node:events');
const { packages } = require('./packages.js');
const { serve, withJSON } = require('./process.js');
const { Tunnel } = require('./tunnel.js');

const FIELDS = [[1, 'r'], [4, '192.0.2.1:5123'], [5, 'https'], [6, 'host.example'], [7, '/acme/hello']];

const dir = packages(), modules = `${dir}/node_modules/`;
const options = dir === undefined ? { skip: 'npm cannot install the packages of images/node/test/packages here' } : {};
const use = (name) => `require('${modules}${name}')`;

const frameworks = {
  'express 5': `const e = ${use('express')}; const a = e(); a.use(e.json()); a.get('/x/:id', (q, s) => s.json({ id: q.params.id, ip: q.ip, base: q.baseUrl })); a.post('/e', (q, s) => s.status(201).send(q.body)); a.get('/big', (q, s) => s.send('x'.repeat(300000))); a.get('/err', (q, s, n) => n(new Error('boom'))); a.get('/r', (q, s) => s.redirect('/y')); module.exports = (ctx, req, res) => a(req, res);`,
  'express 4': `const e = ${use('express4')}; const a = e(); a.use(e.json()); a.get('/x/:id', (q, s) => s.json({ id: q.params.id, ip: q.ip, base: q.baseUrl })); a.post('/e', (q, s) => s.status(201).send(q.body)); a.get('/big', (q, s) => s.send('x'.repeat(300000))); a.get('/err', (q, s, n) => n(new Error('boom'))); a.get('/r', (q, s) => s.redirect('/y')); module.exports = (ctx, req, res) => a(req, res);`,
  koa: `const K = ${use('koa')}; const a = new K(); a.use(async (c) => { if (c.path === '/big') c.body = 'x'.repeat(300000); else if (c.path === '/err') throw new Error('boom'); else if (c.path === '/r') c.redirect('/y'); else if (c.method === 'POST') { let b = ''; for await (const d of c.req) b += d; c.status = 201; c.body = JSON.parse(b); } else c.body = { id: c.path.slice(3), ip: c.ip, base: c.req.baseUrl }; }); const h = a.callback(); module.exports = (ctx, req, res) => { h(req, res); };`,
  fastify: `const f = ${use('fastify')}(); f.get('/x/:id', async (q) => ({ id: q.params.id, ip: q.ip, base: q.raw.baseUrl })); f.post('/e', async (q, r) => { r.code(201); return q.body; }); f.get('/big', async () => 'x'.repeat(300000)); f.get('/err', async () => { throw new Error('boom'); }); f.get('/r', (q, r) => r.redirect('/y')); const ready = f.ready(); module.exports = (ctx, req, res) => { ready.then(() => f.server.emit('request', req, res)); };`,
  'fastify by its routing': `const f = ${use('fastify')}(); f.get('/x/:id', (q, r) => { r.send({ id: q.params.id, ip: q.ip, base: q.raw.baseUrl }); }); f.post('/e', async (q, r) => { r.code(201); return q.body; }); f.get('/big', async () => 'x'.repeat(300000)); f.get('/err', async () => { throw new Error('boom'); }); f.get('/r', (q, r) => r.redirect('/y')); const ready = f.ready(); module.exports = async (ctx, req, res) => { await ready; f.routing(req, res); };`,
  hono: `const { Hono } = ${use('hono')}; const a = new Hono().basePath('/acme/hello'); a.get('/x/:id', (c) => c.json({ id: c.req.param('id'), ip: '192.0.2.1', base: '/acme/hello' })); a.post('/e', async (c) => c.json(await c.req.json(), 201)); a.get('/big', (c) => c.text('x'.repeat(300000))); a.get('/err', () => { throw new Error('boom'); }); a.get('/r', (c) => c.redirect('/y')); module.exports = { fetch: a.fetch };`,
};

for (const [name, code] of Object.entries(frameworks)) {
  test(`${name} works`, options, async () => {
    await using p = await serve({ code, read: dir });
    const ask = async (method, target, body = '', headers = []) => withJSON(await p.client.request({ method, target: `/acme/hello${target}`, fields: FIELDS, headers }, body));
    const x = await ask('GET', '/x/7?a=1');
    assert.deepEqual([x.status, x.json], [200, { id: '7', ip: '192.0.2.1', base: '/acme/hello' }]);
    assert.match(x.headers['content-type'], /^application\/json/);
    const e = await ask('POST', '/e', '{"a":1}', [['content-type', 'application/json'], ['content-length', '7']]);
    assert.deepEqual([e.status, e.json], [201, { a: 1 }]);
    assert.equal((await ask('GET', '/big')).body.length, 300000);
    assert.equal((await ask('GET', '/err')).status, 500);
    const r = await ask('GET', '/r');
    assert.deepEqual([r.status, r.headers.location], [302, '/y']);
    const h = await ask('HEAD', '/x/7');
    assert.deepEqual([h.status, h.body.length], [200, 0]);
  });
}

test('compression wraps res', options, async () => {
  await using p = await serve({ code: `const c = ${use('compression')}({ threshold: 0 }); module.exports = (ctx, req, res) => c(req, res, () => { res.setHeader('content-type', 'text/plain'); res.end('x'.repeat(100000)); });`, read: dir });
  const r = await p.client.request({ headers: [['accept-encoding', 'gzip']] });
  assert.equal(r.headers['content-encoding'], 'gzip');
  assert.equal(zlib.gunzipSync(r.body).toString(), 'x'.repeat(100000));
});

const server = `const { WebSocketServer } = ${use('ws')}; const wss = new WebSocketServer({ noServer: true, perMessageDeflate: true });
  module.exports = (ctx, req, res) => req.headers.upgrade && wss.handleUpgrade(req, req.socket, Buffer.alloc(0), (ws) => {
    ws.on('message', (m, binary) => { if (!binary && String(m) === 'bye') ws.close(4001, 'as you say'); else ws.send(m, { binary }); });
    ws.on('ping', (m) => console.log('ping', String(m)));
    ws.on('close', (code) => console.log('closed', code)); });`;

for (const perMessageDeflate of [false, true]) {
  test(`ws serves a real client, ${perMessageDeflate ? 'with' : 'without'} compression`, options, async () => {
    await using p = await serve({ code: server, read: dir });
    const { WebSocket } = require(`${modules}ws`);
    const ws = new WebSocket('ws://host.example/acme/hello/x', { perMessageDeflate, createConnection: () => new Tunnel(p.client, FIELDS) });
    await once(ws, 'open');
    assert.equal(ws.extensions, perMessageDeflate ? 'permessage-deflate' : '');
    const echo = async (m) => { ws.send(m); return (await once(ws, 'message'))[0]; };
    assert.equal(String(await echo('hällo')), 'hällo');
    for (const size of [0, 125, 126, 65535, 65536, 3_000_000]) { // over the window, both ways
      const bytes = crypto.randomBytes(size);
      assert.ok(bytes.equals(await echo(bytes)), `${size} bytes`);
    }
    ws.ping('p1');
    assert.equal(String((await once(ws, 'pong'))[0]), 'p1');
    await p.log((l) => l.m === 'ping p1');
    const closed = once(ws, 'close');
    ws.send('bye');
    const [code, reason] = await closed;
    assert.deepEqual([code, String(reason)], [4001, 'as you say']);
    await p.log((l) => l.m === 'closed 4001');
    await p.client.sync();
    const pong = p.said(['pong']);
    p.child.send({ op: 'ping', n: 1 });
    assert.equal((await pong).inflight, 0, 'nothing is left of it');
  });
}

test('a client that vanishes closes the WebSocket', options, async () => {
  await using p = await serve({ code: server, read: dir });
  const { WebSocket } = require(`${modules}ws`);
  const ws = new WebSocket('ws://host.example/acme/hello', { createConnection: () => new Tunnel(p.client, FIELDS) });
  await once(ws, 'open');
  ws.on('error', () => {});
  p.client.reset(1, 1);
  await p.log((l) => l.m === 'closed 1006');
});

test('a WebSocket outlasts its request\'s deadline, and what its listeners throw costs only itself', options, async () => {
  await using p = await serve({ code: server.replace("ws.on('ping'", "ws.on('message', (m) => { if (String(m) === 'throw') throw new Error('in message'); }); ws.on('ping'"), read: dir });
  const { WebSocket } = require(`${modules}ws`), soon = Buffer.alloc(8);
  soon.writeBigUInt64LE(BigInt(Date.now() + 100));
  const connect = (fields) => new WebSocket('ws://host.example/acme/hello', { createConnection: () => new Tunnel(p.client, fields) });
  const old = connect([...FIELDS, [8, soon]]), bad = connect(FIELDS);
  await Promise.all([once(old, 'open'), once(bad, 'open')]);
  assert.equal((await p.client.request({ fields: [[8, soon]] })).status, 504, 'the deadline of both has passed');
  const ended = once(bad, 'close');
  bad.on('error', () => {});
  bad.send('throw');
  await ended;
  old.send('still there');
  assert.equal(String((await once(old, 'message'))[0]), 'still there');
  old.terminate();
});

test('ws refuses what is no handshake with an answer', options, async () => {
  await using p = await serve({ code: `const { WebSocketServer } = ${use('ws')}; const wss = new WebSocketServer({ noServer: true }); module.exports = (ctx, req, res) => wss.handleUpgrade(req, req.socket, Buffer.alloc(0), () => {});`, read: dir });
  const r = await p.client.answer(p.client.open({ headers: [['upgrade', 'websocket']] }, '', false));
  assert.equal(r.status, 400);
});
