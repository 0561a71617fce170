'use strict';
// One invocation's fault is its own: the others of the process go on, what it
// prints carries its id, and code finds no way into the harness by chance.

const test = require('node:test');
const assert = require('node:assert');
const { serve, invoke, withJSON } = require('./process.js');

const held = (fault) => `
  const waiting = [];
  module.exports = (ctx, cb) => {
    if (ctx.query.go) { for (const w of waiting) w(); return cb(null, 'went'); }
    if (ctx.query.fault) { ${fault}; return; }
    waiting.push(() => cb(null, ctx.id));
  };`;

for (const [name, fault, cause] of [
  ['an exception of a later turn', 'setImmediate(() => { throw new Error("x"); })', 'uncaught_exception'],
  ['an unhandled rejection', 'Promise.reject(new Error("x"))', 'unhandled_rejection'],
  ['a synchronous throw', 'throw new Error("x")', 'exception'],
  ['an exception in an emitter', 'const e = new (require("events"))(); setTimeout(() => e.emit("error", new Error("x")), 1)', 'uncaught_exception'],
]) {
  test(`${name} costs only its own invocation`, async () => {
    await using p = await serve(held(fault));
    const innocent = p.client.answer(p.client.open({ fields: [[1, 'innocent']] }));
    const guilty = withJSON(await p.client.request({ target: '/?fault=1', fields: [[1, 'guilty']] }));
    assert.deepEqual([guilty.status, guilty.cause], [500, cause]);
    assert.equal((await p.client.request({ target: '/?go=1' })).status, 200);
    assert.equal(withJSON(await innocent).json, 'innocent');
  });
}

test('process.exit answers its invocation, lets the others finish, and then ends the process', async () => {
  await using p = await serve(held('process.exit(7)'));
  const leaving = p.said(['leaving']);
  const innocent = p.client.answer(p.client.open({ fields: [[1, 'innocent']] }));
  const goaway = p.client.until((f) => f.type === 'GOAWAY');
  const guilty = await p.client.request({ target: '/?fault=1' });
  assert.deepEqual([guilty.status, guilty.cause], [500, 'process_exit']);
  assert.match((await goaway).reason, /process\.exit\(7\)/);
  assert.equal((await leaving).code, 7);
  const refused = await p.client.request({ target: '/?go=1' });
  assert.deepEqual([refused.reset.code], [4], 'new requests are refused, safe to send elsewhere');
  assert.equal(p.child.exitCode, null, 'it waits for the innocent one');
  p.client.reset(1, 1);
  await assert.rejects(innocent, /connection lost/);
  assert.deepEqual(await p.exited, [7, null]);
});

test('an exception outside any request is logged, and the process lives', async () => {
  await using p = await serve('setTimeout(() => { throw new Error("nobody\'s"); }, 1); module.exports = (cb) => cb(null, 1)');
  const line = await p.log((l) => /nobody's/.test(l.m));
  assert.deepEqual([line.l, line.r], ['error', undefined]);
  assert.equal((await p.client.request({})).status, 200);
});

test('handlers of uncaughtException hear of it, and the invocation still gets its answer', async () => {
  await using p = await serve('process.on("uncaughtException", (e, origin) => console.log("heard", e.message, origin)); module.exports = (cb) => setTimeout(() => { throw new Error("x"); }, 1)');
  assert.equal((await p.client.request({})).status, 500);
  await p.log((l) => l.m === 'heard x uncaughtException');
});

test('what is printed carries level and request', async () => {
  await using p = await serve(`module.exports = (ctx, cb) => {
    console.log('a %d', 1); console.warn('b'); console.error('c'); console.debug({ d: 1 }); console.log('two\\nlines');
    process.stdout.write('part'); setTimeout(() => { process.stdout.write('ed\\n'); cb(); }, 1); }`);
  await p.client.request({ fields: [[1, 'r9']] });
  await p.log((l) => l.m === 'parted');
  assert.deepEqual(p.logs, [
    { l: 'info', m: 'a 1', r: 'r9' }, { l: 'warn', m: 'b', r: 'r9' }, { l: 'error', m: 'c', r: 'r9' },
    { l: 'debug', m: '{ d: 1 }', r: 'r9' }, { l: 'info', m: 'two\nlines', r: 'r9' }, { l: 'info', m: 'parted', r: 'r9' },
  ]);
});

test('a message too long for a line is cut, and says so', async () => {
  await using p = await serve('module.exports = (cb) => { console.log("x".repeat(100000)); cb(); }');
  await p.client.request({});
  assert.match((await p.log((l) => l.l === 'info')).m, /^x{15000}… \(100000 characters\)$/);
});

const HIDDEN = `module.exports = (ctx, cb) => cb(null, {
  cache: Object.keys(require.cache), main: require.main, mainModule: process.mainModule, parent: module.parent, children: module.children.length,
  send: typeof process.send, argv: process.argv.slice(1), env: Object.keys(process.env), proto: ({}).__proto__ === undefined })`;

test('the harness is out of sight', async () => {
  const r = await invoke(HIDDEN);
  assert.deepEqual(r.json, { cache: [], parent: null, children: 0, send: 'undefined', argv: ['/function/function.js'], env: [], proto: true });
});

for (const [name, code] of [
  ['JSON.stringify', 'JSON.stringify = () => "stolen"'],
  ['Map.prototype', 'Map.prototype.get = Map.prototype.set = Map.prototype.delete = () => { throw 1; }'],
  ['Buffer.prototype', 'for (const k of ["latin1Write", "utf8Write", "latin1Slice", "subarray", "set"]) Buffer.prototype[k] = () => { throw 1; }'],
  ['Array.prototype', 'Array.prototype.push = Array.prototype.slice = Array.prototype.map = () => { throw 1; }'],
  ['Promise.prototype.then', 'Promise.prototype.then = () => { throw 1; }'],
  ['String.prototype', 'for (const k of ["indexOf", "slice", "split", "includes", "startsWith", "toLowerCase"]) String.prototype[k] = () => { throw 1; }'],
  ['net.Socket.prototype', 'const s = require("net").Socket.prototype; s.write = s.end = s.cork = () => { throw 1; }'],
  ['Object.prototype', 'Object.prototype.status = 599; Object.prototype.statusCode = 598; Object.prototype.get = () => 1'],
  ['timers', 'setImmediate = setTimeout = queueMicrotask = () => { throw 1; }'],
]) {
  test(`answers go on when code breaks ${name}`, async () => {
    await using p = await serve(`${code}; module.exports = (ctx, cb) => ctx.query.err ? cb(new Error("e")) : cb(null, { ok: 1 })`);
    for (let i = 0; i < 3; i++) {
      const r = withJSON(await p.client.request({ target: '/?a=b' }));
      assert.deepEqual([r.status, r.json], [200, { ok: 1 }], r.text);
    }
    const e = withJSON(await p.client.request({ target: '/?err=1' }));
    assert.ok(e.status === 400 || e.status === 598, `${e.status}`);
  });
}

test('a stop lets what is in flight finish, and the process exits with 0', async () => {
  await using p = await serve('process.on("exit", (code) => console.log("exit", code)); module.exports = (ctx, cb) => setTimeout(() => cb(null, "done"), 30)');
  const slow = p.client.request({});
  const goaway = p.client.until((f) => f.type === 'GOAWAY');
  await p.client.sync();
  p.child.send({ op: 'ping', n: 1 });
  const pong = await p.said(['pong']);
  assert.equal(pong.inflight, 1);
  p.child.send({ op: 'stop' });
  await goaway;
  assert.equal(withJSON(await slow).json, 'done');
  assert.deepEqual(await p.exited, [0, null]);
  await p.log((l) => l.m === 'exit 0');
});
