'use strict';
// What a process shows the cell of whose turn it is (docs/cell.md).

const test = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const inspector = require('node:inspector');
const { serve, withJSON } = require('./process.js');

/** Where the mark lies in pid's memory: a page of an anonymous writable
 * mapping, and 16 bytes. */
function findMark(pid, mark) {
  const fd = fs.openSync(`/proc/${pid}/mem`), want = Buffer.from(mark, 'hex'), found = [];
  for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const m = /^(\w+)-(\w+) rw-p \w+ 00:00 0 +$/.exec(line);
    if (m === null) continue;
    const got = Buffer.alloc(16), end = parseInt(m[2], 16);
    for (let page = parseInt(m[1], 16); page < end; page += 4096) {
      if (fs.readSync(fd, got, 0, 16, page + 16) === 16 && got.equals(want)) found.push(page + 16);
    }
  }
  return {
    found,
    read() {
      const b = Buffer.alloc(129);
      fs.readSync(fd, b, 0, 129, found[0] + 16);
      return b.toString('latin1', 1, 1 + b[0]);
    },
    close: () => fs.closeSync(fd),
  };
}

const canRead = process.platform === 'linux' && process.getuid() === 0;

test('the mark names the request in whose synchronous turn the process is', { skip: !canRead && 'needs root' }, async () => {
  // It holds on until we have looked.
  const dir = fs.mkdtempSync('/tmp/turn-'), looked = `${dir}/looked`;
  const spin = `const fs = require("fs"); const hold = () => { fs.writeSync(1, "in\\n"); const until = Date.now() + 20000; while (!fs.existsSync(${JSON.stringify(looked)}) && Date.now() < until); };`;
  await using p = await serve(`${spin} module.exports = (ctx, req, res) => {
    if (ctx.query.now) { hold(); res.end(); } else { req.on("data", () => { hold(); }); req.on("end", () => res.end()); } }`);
  const mark = findMark(p.child.pid, p.spare.mark);
  assert.equal(mark.found.length, 1, 'there is one');
  assert.equal(mark.read(), '');
  for (const [what, begin] of [
    ['a request', () => p.client.open({ target: '/?now=1', fields: [[2, 'acme'], [1, 'sync-1']] })],
    ['a body that comes later', async () => {
      const id = p.client.open({ method: 'POST', fields: [[1, 'sync-1']] }, '', false);
      await p.client.sync(); // or it comes along, and is handed out in a tick of its own
      p.client.data(id, 'x', true);
      return id;
    }],
    ['an id too long', () => p.client.open({ target: '/?now=1', fields: [[1, 'sync-1'.padEnd(300, 'x')]] })],
  ]) {
    p.logs.length = 0;
    const answer = p.client.answer(await begin());
    answer.catch(() => {}); // should we fail before it comes
    await p.log((l) => l.raw === 'in');
    const seen = mark.read();
    fs.writeFileSync(looked, '');
    assert.equal(seen, what === 'an id too long' ? 'sync-1'.padEnd(128, 'x') : 'sync-1', what);
    await answer;
    await p.client.sync();
    assert.equal(mark.read(), '', `after ${what}`);
    fs.rmSync(looked);
  }
  mark.close();
  fs.rmSync(dir, { recursive: true });
});

test('the mark begins 16 bytes into a page in every process', { skip: !canRead && 'needs root' }, async () => {
  const all = await Promise.all(Array.from({ length: 4 }, () => serve('module.exports = (cb) => cb()')));
  for (const p of all) {
    const mark = findMark(p.child.pid, p.spare.mark);
    mark.close();
    await p.stop();
    assert.equal(mark.found.length, 1);
  }
});

test('the eye gives the running request\'s id, wherever its code runs', async () => {
  await using p = await serve('module.exports = (ctx, cb) => { const eye = globalThis[ctx.query.eye]; const seen = [eye()]; setTimeout(async () => { seen.push(eye()); await null; seen.push(eye()); cb(null, seen); }, 1); }');
  const r = withJSON(await p.client.request({ target: `/?eye=${p.spare.eye}`, fields: [[1, 'r1']] }));
  assert.deepEqual(r.json, ['r1', 'r1', 'r1']);
});

test('the eye cannot be replaced, is not listed, and is silent outside of requests', async () => {
  await using p = await serve('const before = Object.keys(globalThis); for (const k of Object.getOwnPropertyNames(globalThis)) if (/^_[0-9a-f]{32}$/.test(k)) { globalThis[k] = 0; console.log(k, Reflect.deleteProperty(globalThis, k), Reflect.defineProperty(globalThis, k, { value: 1 }), before.includes(k), JSON.stringify(globalThis[k]())); } module.exports = (cb) => cb()');
  assert.equal((await p.log((l) => l.l === 'info')).m, `${p.spare.eye} false false false ""`);
});

test('the debugger can call the eye where it has paused, without a side effect', async () => {
  // In this process, as the cell does it over the inspector.
  const { within, show } = require('../harness/turn.js'), { eye } = show();
  const session = new inspector.Session(), seen = [];
  session.connect();
  session.on('Debugger.paused', ({ params }) => {
    const { callFrameId } = params.callFrames[0], expression = `globalThis[${JSON.stringify(eye)}]()`;
    session.post('Debugger.evaluateOnCallFrame', { callFrameId, expression, throwOnSideEffect: true }, (e, r) => seen.push(r.result.value));
  });
  session.post('Debugger.enable');
  within({ requestId: 'r2' }, () => { debugger; });
  session.disconnect();
  assert.deepEqual(seen, ['r2']);
});

test('a blind process closes its inspector, and can open it again', async () => {
  await using p = await serve('module.exports = (cb) => cb(null, 1)');
  for (let i = 0; i < 2; i++) {
    const opened = new Promise((go) => p.child.stderr.on('data', (d) => { if (/Debugger listening/.test(d)) go(String(d)); }));
    process.kill(p.child.pid, 'SIGUSR1');
    const port = /127\.0\.0\.1:(\d+)/.exec(await opened)[1];
    p.child.send({ op: 'blind' });
    p.child.send({ op: 'ping', n: i });
    await p.said(['pong']);
    await assert.rejects(fetch(`http://127.0.0.1:${port}/json`), 'nobody listens');
  }
  assert.equal((await p.client.request({})).status, 200);
});

test('pong tells how many have ended', async () => {
  await using p = await serve('module.exports = (ctx, cb) => { if (!ctx.query.hang) cb(); }');
  for (let i = 0; i < 3; i++) await p.client.request({});
  p.client.open({ target: '/?hang=1' });
  const id = p.client.open({ target: '/?hang=1' });
  p.client.reset(id, 1);
  await p.client.sync();
  const pong = p.said(['pong']);
  p.child.send({ op: 'ping', n: 7 });
  const { n, done, inflight } = await pong;
  assert.deepEqual([n, done, inflight], [7, 4, 1]);
});
