'use strict';
// Work after the answer: waited for and let run for limits.background, and
// then stopped. Timers are otherwise Node's own.

const test = require('node:test');
const assert = require('node:assert');
const { serve, withJSON } = require('./process.js');

const brief = { limits: { background: 150 } };

async function inflight(p) {
  const pong = p.said(['pong']);
  p.child.send({ op: 'ping', n: 1 });
  return (await pong).inflight;
}

for (const [name, code] of [
  ['(ctx, cb)', 'module.exports = (ctx, cb) => { ctx.waitUntil(work()); cb(null, 1); }'],
  ['async (ctx)', 'module.exports = async (ctx) => { ctx.waitUntil(work()); return 1; }'],
  ['(ctx, req, res)', 'module.exports = (ctx, req, res) => { ctx.waitUntil(work()); res.end("1"); }'],
  ['fetch', 'module.exports = { fetch(request, env, ctx) { ctx.waitUntil(work()); return new Response("1"); } }'],
]) {
  test(`ctx.waitUntil keeps the process until it is done: ${name}`, async () => {
    await using p = await serve(`let go; const work = () => new Promise((done) => { go = () => { console.log("worked"); done(); }; }); process.on("SIGUSR2", () => go()); ${code}`);
    await p.client.request({ fields: [[1, 'r1']] });
    assert.equal(await inflight(p), 1);
    const goaway = p.client.until((f) => f.type === 'GOAWAY');
    p.child.send({ op: 'stop' });
    await goaway;
    assert.equal(await inflight(p), 1, 'it waits, though it leaves');
    process.kill(p.child.pid, 'SIGUSR2');
    assert.deepEqual(await p.exited, [0, null]);
    assert.ok(p.logs.some((l) => l.m === 'worked'));
  });
}

test('what is not done within limits.background is waited for no longer, and the log says so', async () => {
  await using p = await serve({ ...brief, code: 'module.exports = (ctx, cb) => { ctx.waitUntil(new Promise(() => {})); cb(); }' });
  await p.client.request({ fields: [[1, 'r1']] });
  assert.equal(await inflight(p), 1);
  const line = await p.log((l) => l.l === 'warn');
  assert.equal(line.r, 'r1');
  assert.match(line.m, /waitUntil.*0\.15 s.*limits\.background/);
  assert.equal(await inflight(p), 0);
});

test('a promise that fails costs nobody anything, and is logged', async () => {
  await using p = await serve('module.exports = (ctx, cb) => { ctx.waitUntil(Promise.reject(new Error("later"))); ctx.waitUntil(7); cb(null, "ok"); }');
  assert.equal(withJSON(await p.client.request({ fields: [[1, 'r1']] })).json, 'ok');
  const line = await p.log((l) => l.l === 'error');
  assert.match(line.m, /waitUntil.*Error: later/s);
  assert.equal(line.r, 'r1');
  assert.equal(await inflight(p), 0);
});

const tickers = {
  setInterval: 'setInterval(tick, 20)',
  'a setTimeout that sets the next': '(function next() { setTimeout(() => { tick(); next(); }, 20); })()',
  'a setImmediate that sets the next': '(function next() { setImmediate(() => { tick(); next(); }); })()',
  'timers/promises': '(async () => { for (;;) { await require("timers/promises").setTimeout(20); tick(); } })()',
  'a captured setTimeout': '(function next() { captured(() => { tick(); next(); }, 20); })()',
};

for (const [name, code] of Object.entries(tickers)) {
  test(`timers stop limits.background after the answer: ${name}`, async () => {
    await using p = await serve({ ...brief, code: `const captured = require("timers").setTimeout; let ticks = 0, last = 0; const tick = () => { ticks++; last = Date.now(); };
      module.exports = (ctx, cb) => { if (ctx.query.count) return cb(null, [ticks, Date.now() - last]); ${code}; cb(); }` });
    await p.client.request({ fields: [[1, 'r1']] });
    const line = await p.log((l) => l.l === 'warn');
    assert.equal(line.r, 'r1');
    assert.match(line.m, /Timers.*0\.15 s/);
    const [before] = withJSON(await p.client.request({ target: '/?count=1' })).json;
    assert.ok(before > 2, `it ran ${before} times in its grace`);
    await p.client.sync();
    const [after] = withJSON(await p.client.request({ target: '/?count=1' })).json;
    assert.equal(after, before);
    assert.equal(p.logs.filter((l) => l.l === 'warn').length, 1, 'said once');
  });
}

test('what is not stopped: timers of the module, of requests not yet answered, and those unref\'d', async () => {
  await using p = await serve({ limits: { background: 1 }, code: `let module_ = 0, housekeeping = 0; setInterval(() => module_++, 10);
    module.exports = (ctx, cb) => {
      if (ctx.query.keep) { setInterval(() => housekeeping++, 10).unref(); return cb(); }
      const t = setInterval(() => { if (module_ > 9 && housekeeping > 4) { clearInterval(t); cb(null, "both ran"); } }, 10);
    }` });
  await p.client.request({ target: '/?keep=1' });
  assert.equal(withJSON(await p.client.request({})).json, 'both ran');
  assert.ok(!p.logs.some((l) => l.l === 'warn'));
});

test('timers are Node\'s own in everything that code can see', async () => {
  await using p = await serve(`const assert = require('assert'), { promisify } = require('util'), timers = require('timers');
    module.exports = async () => {
      assert.equal(setTimeout, timers.setTimeout);
      const order = [], t = setTimeout(() => order.push('cleared'), 5), i = setImmediate(() => order.push('cleared'));
      assert.equal(t.constructor.name, 'Timeout');
      assert.ok(t.hasRef() && !t.unref().hasRef() && t.ref() === t && t.refresh() === t);
      assert.equal(typeof +t, 'number');
      clearTimeout(+t);
      clearImmediate(i);
      clearTimeout(undefined);
      assert.throws(() => setTimeout('code', 1), { code: 'ERR_INVALID_ARG_TYPE' });
      assert.equal(await promisify(setTimeout)(1, 'v'), 'v');
      assert.equal(await promisify(setImmediate)('w'), 'w');
      await new Promise((done) => setTimeout((...args) => { order.push(args); done(); }, 1, 'a', 'b'));
      await new Promise((done) => setImmediate((...args) => { order.push(args); done(); }, 'c'));
      let n = 0;
      await new Promise((done) => { const every = setInterval(function () { assert.equal(this, every); if (++n === 3) { clearInterval(every); done(); } }, 1); });
      { using disposed = setTimeout(() => order.push('cleared'), 1); }
      const again = setTimeout(() => { order.push('again'); if (order.length < 5) again.refresh(); }, 1);
      await new Promise((done) => setTimeout(done, 20));
      return order;
    }`);
  const r = withJSON(await p.client.request({}));
  assert.deepEqual(r.json, [['a', 'b'], ['c'], 'again', 'again', 'again'], r.text);
});
