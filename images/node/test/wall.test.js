'use strict';
// The wall clock, told by the process itself while it is healthy.

const test = require('node:test');
const assert = require('node:assert');
const { serve, withJSON } = require('./process.js');

function u64(n) {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b;
}

/** A head whose request is out of time in ms. */
const within = (ms, head = {}) => ({ ...head, fields: [[1, 'r1'], [3, 'hello'], [8, u64(Date.now() + ms)], [11, u64(ms)]] });

const listener = 'const silent = require("net").createServer(() => {}); const listening = new Promise((go) => silent.listen(0, "127.0.0.1", () => go(silent.address().port)));';
const waits = [
  ['a timer', 'module.exports = (ctx, cb) => {\n  setTimeout(cb, 5000);\n};', 'test.js:2:3', /^a timer of 5000ms$/],
  ['a promise of a timer', 'const sleep = (ms) => new Promise((go) => setTimeout(go, ms));\nmodule.exports = async () => {\n  await sleep(5000);\n};', 'test.js:1:43', /^a timer of 5000ms$/],
  ['timers/promises, in an ES module', { file: 'a.mjs', code: 'import { setTimeout as sleep } from "node:timers/promises";\nexport default async () => {\n  await sleep(5000);\n};' }, 'a.mjs:3:9', /^a timer of 5000ms$/],
  ['http', `${listener} module.exports = async (ctx, cb) => { const port = await listening;\n  require("http").get({ host: "127.0.0.1", port });\n};`, 'test.js:2:19', /^an outgoing request to 127\.0\.0\.1:\d+$/],
  ['fetch', `${listener} module.exports = async (ctx, cb) => { const port = await listening;\n  await fetch("http://127.0.0.1:" + port);\n};`, 'test.js:2:9', /^an outgoing request to 127\.0\.0\.1:\d+$/],
  ['a connection', `${listener} module.exports = async (ctx, cb) => { const port = await listening;\n  require("net").connect(port, "127.0.0.1");\n};`, 'test.js:2:18', /^a connection to 127\.0\.0\.1:\d+$/],
  ['what has ended is not waited for', 'module.exports = (ctx, cb) => {\n  setTimeout(cb, 5000);\n  setTimeout(() => {}, 10); clearTimeout(setTimeout(() => {}, 20));\n};', 'test.js:2:3', /^a timer of 5000ms$/],
  ['nothing that we know of', 'module.exports = (ctx, cb) => {};', undefined, undefined],
];

for (const [name, code, where, waiting] of waits) {
  test(`a request out of time is answered 504 with what it waits for: ${name}`, async () => {
    await using p = await serve(code);
    const r = withJSON(await p.client.request(within(200)));
    assert.deepEqual([r.status, r.cause, r.headers['content-type']], [504, 'wall_limit', 'application/json'], r.text);
    const { message, measured, waiting: what, where: place, ...rest } = r.json;
    assert.deepEqual(rest, { code: 504, error: 'wall_limit', limit: 'limits.wall', value: '200ms', req_id: 'r1' });
    assert.ok(/^\d\d\dms$/.test(measured) ? parseInt(measured) >= 200 : /^[\d.]+s$/.test(measured), measured);
    assert.ok(message.startsWith(`function hello took ${measured}, `), message);
    assert.equal(place, where);
    if (waiting === undefined) assert.equal(what, undefined);
    else { assert.match(what, waiting); assert.ok(message.includes(what)); }
  });
}

test('each request has its own deadline, and those without one have none', async () => {
  await using p = await serve('const held = []; module.exports = (ctx, cb) => { if (ctx.query.go) { for (const h of held) h(null, "went"); cb(); } else held.push(cb); }');
  const free = p.client.request({}), late = p.client.request(within(60000));
  const times = [300, 100, 200].map((ms) => p.client.request(within(ms)).then((r) => [ms, r.status]));
  const order = [];
  for (const t of times) t.then(([ms]) => order.push(ms));
  assert.deepEqual(await Promise.all(times), [[300, 504], [100, 504], [200, 504]]);
  assert.deepEqual(order, [100, 200, 300]);
  await p.client.request({ target: '/?go=1' });
  for (const r of await Promise.all([free, late])) assert.equal(withJSON(r).json, 'went');
});

test('an answer that has begun is broken off, and code hears of it', async () => {
  await using p = await serve('module.exports = (ctx, req, res) => { res.on("close", () => console.log("closed")); res.write("half"); }');
  const r = await p.client.request(within(100));
  assert.deepEqual([r.status, r.body.toString(), r.reset.code], [200, 'half', 2]);
  await p.log((l) => l.m === 'closed' && l.r === 'r1');
});

test('a 504 is the end: a late result changes nothing, a signal fires, and the process goes on', async () => {
  await using p = await serve('export default { async fetch(request, env, ctx) { if (ctx.query.quick) return new Response("q"); await new Promise((go) => request.signal.addEventListener("abort", go)); console.log("aborted"); return new Response("late"); } }');
  assert.equal((await p.client.request(within(100))).status, 504);
  await p.log((l) => l.m === 'aborted');
  assert.equal((await p.client.request({ target: '/?quick=1' })).status, 200);
  assert.equal(p.logs.length, 1);
});

test('a body that does not come in time', async () => {
  await using p = await serve('module.exports = (ctx, cb) => cb(null, 1)');
  const r = withJSON(await p.client.answer(p.client.open(within(100, { method: 'POST' }), 'half', false)));
  assert.deepEqual([r.status, r.json.waiting], [504, 'the rest of the request\'s body']);
});
