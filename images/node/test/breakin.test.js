'use strict';
// What the debugger ends, when the cell breaks into a loop, is one turn of one
// request: what came behind it on the connection is read all the same.

const test = require('node:test');
const assert = require('node:assert');
const { once } = require('node:events');
const { serve, withJSON } = require('./process.js');

/** Ends the turn that p's code is in, as the cell does. */
async function breakIn(p) {
  const opened = new Promise((go) => p.child.stderr.on('data', (d) => { const m = /ws:\S+/.exec(d); if (m !== null) go(m[0]); }));
  process.kill(p.child.pid, 'SIGUSR1');
  const url = await opened, ws = new WebSocket(url), paused = new Promise((go) => ws.addEventListener('message', ({ data }) => { if (data.includes('Debugger.paused')) go(JSON.parse(data).params); }));
  await once(ws, 'open');
  const post = (method, params) => ws.send(JSON.stringify({ id: 1, method, params }));
  post('Debugger.enable');
  post('Debugger.pause');
  await paused;
  post('Runtime.terminateExecution');
  post('Debugger.resume');
  const closed = once(ws, 'close');
  ws.close();
  await closed;
  p.child.send({ op: 'blind' });
  const up = () => fetch(url.replace('ws:', 'http:').replace(/[^/]*$/, 'json')).then(() => true, () => false);
  while (await up());
}

const spin = 'for (;;) {}';
for (const [name, code] of [
  ['a loop in (ctx, cb)', `module.exports = (ctx, cb) => { if (ctx.query.spin) ${spin} cb(null, ctx.id); }`],
  ['a loop in (ctx, req, res)', `module.exports = (ctx, req, res) => { if (ctx.query.spin) ${spin} res.end(JSON.stringify(ctx.id)); }`],
  ['a loop in fetch', `export default { fetch(request, env, ctx) { if (ctx.query.spin) ${spin} return Response.json(ctx.id); } }`],
]) {
  test(`requests in the same piece as ${name} are answered`, async () => {
    await using p = await serve(code);
    const before = await p.client.request({ fields: [[1, 'r0']] });
    assert.equal(before.status, 200);
    p.client.socket.cork();
    const others = [];
    const ask = (n) => others.push(p.client.request({ fields: [[1, `r${n}`]] }));
    ask(1);
    const guilty = p.client.open({ target: '/?spin=1', fields: [[1, 'guilty']] });
    ask(2);
    ask(3);
    p.client.socket.uncork();
    await breakIn(p);
    assert.deepEqual((await Promise.all(others)).map((r) => withJSON(r).json), ['r1', 'r2', 'r3']);
    p.client.reset(guilty, 2); // as the runner does, which has answered it
    await p.client.sync();
    const pong = p.said(['pong']);
    p.child.send({ op: 'ping', n: 1 });
    assert.equal((await pong).inflight, 0);
    assert.equal(withJSON(await p.client.request({ fields: [[1, 'after']] })).json, 'after');
  });
}

test('a loop behind an await is ended, and the process goes on', async () => {
  await using p = await serve(`module.exports = async (ctx) => { await null; if (ctx.query.spin) ${spin} return ctx.id; }`);
  p.client.open({ target: '/?spin=1' });
  await breakIn(p);
  assert.equal(withJSON(await p.client.request({ fields: [[1, 'after']] })).json, 'after');
});

test('two loops in one piece are ended one after the other', async () => {
  await using p = await serve(`module.exports = (ctx, cb) => { if (ctx.query.spin) ${spin} cb(null, ctx.id); }`);
  p.client.socket.cork();
  p.client.open({ target: '/?spin=1' });
  p.client.open({ target: '/?spin=1' });
  const last = p.client.request({ fields: [[1, 'last']] });
  p.client.socket.uncork();
  await breakIn(p);
  await breakIn(p);
  assert.equal(withJSON(await last).json, 'last');
});

test('whose turn was cut short is answered, when nobody else has done so', async () => {
  await using p = await serve(`module.exports = (ctx, cb) => { if (ctx.query.spin) ${spin} cb(null, ctx.id); }`);
  const cut = p.client.request({ target: '/?spin=1' });
  await breakIn(p);
  assert.equal((await cut).status, 508);
  assert.equal((await cut).cause, 'block_limit');
});
