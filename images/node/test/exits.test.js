'use strict';
// Code that would end the process, or use up what it lives on: laid to the
// invocation that did it, and the others go on.

const test = require('node:test');
const assert = require('node:assert');
const { serve, withJSON } = require('./process.js');

const held = (fault) => `
  const waiting = [];
  module.exports = (ctx, cb) => {
    if (ctx.query.fault) { ${fault}; return; }
    process.once("SIGUSR2", () => cb(null, ctx.id));
  };`;

for (const [name, fault, cause, code] of [
  ['process.exit()', 'process.exit()', 'process_exit', 0],
  ['process.exit() in a later turn', 'setTimeout(() => process.exit(3), 1)', 'process_exit', 3],
  ['process.reallyExit()', 'process.reallyExit(4)', 'process_exit', 4],
  ['process.abort()', 'process.abort()', 'process_abort', 134],
  ['process.kill() of itself', 'process.kill(process.pid)', 'process_kill', 143],
  ['process.kill() with SIGKILL', 'process.kill(process.pid, "SIGKILL")', 'process_kill', 137],
  ['process.kill() with a number', 'process.kill(process.pid, 6)', 'process_kill', 134],
  ['process.kill() of its group', 'process.kill(0, "SIGABRT")', 'process_kill', 134],
  ['process._kill()', 'process._kill(process.pid, 9)', 'process_kill', 137],
]) {
  test(`${name} answers its invocation, lets the others finish, and the process goes`, async () => {
    await using p = await serve(held(fault));
    const innocent = p.client.request({ fields: [[1, 'innocent']] });
    const leaving = p.said(['leaving']);
    const guilty = withJSON(await p.client.request({ target: '/?fault=1', fields: [[1, 'guilty']] }));
    assert.deepEqual([guilty.status, guilty.cause], [500, cause], guilty.text);
    assert.match(guilty.json.error, /^Script called process\.\w+\(\)\.$/);
    assert.equal((await leaving).code, code);
    process.kill(p.child.pid, 'SIGUSR2');
    assert.equal(withJSON(await innocent).json, 'innocent');
    assert.deepEqual(await p.exited, [code, null]);
  });
}

for (const [name, code, want] of [
  ['process.dlopen finds nothing beside the code', 'process.dlopen({ exports: {} }, "/function/x.node")', 'ERR_DLOPEN_FAILED'],
  ['process.execve is refused', 'process.execve("/bin/true", ["true"])', 'EPERM'],
  ['another process is not killed', 'process.kill(process.ppid, "SIGKILL")', 'EPERM'],
  ['nor every process', 'process.kill(-1, "SIGKILL")', 'EPERM'],
  ['nor is there one to see', 'process.kill(process.ppid, 0)', 'EPERM'],
  ['the debugger is not opened', 'process.kill(process.pid, "SIGUSR1")', 'EPERM'],
  ['nor another process\'s', 'process._debugProcess(process.ppid)', 'EPERM'],
  ['an unknown signal', 'process.kill(process.pid, "SIGNONE")', 'ERR_UNKNOWN_SIGNAL'],
  ['no child process', 'require("child_process").spawnSync("/bin/true")', 'ERR_ACCESS_DENIED'],
  ['no worker', 'new (require("worker_threads").Worker)("", { eval: true })', 'ERR_ACCESS_DENIED'],
  ['a signal that somebody listens for is only a signal', 'await new Promise((go) => { process.once("SIGHUP", go); process.kill(process.pid, "SIGHUP"); })', undefined],
  ['signal 0 asks', 'process.kill(process.pid, 0)', undefined],
  ['the channel stays open', 'process.disconnect()', undefined],
  ['endless recursion', 'const f = () => f() + 1; f()', undefined, 'RangeError'],
  ['endless recursion with arguments', 'const f = (...a) => f(...a, 1) + 1; f()', undefined, 'RangeError'],
]) {
  test(`the process lives: ${name}`, async () => {
    await using p = await serve(`module.exports = async (ctx) => { if (!ctx.query.fault) return "alive"; try { ${code}; } catch (e) { return { code: e.code, name: e.name }; } return {}; }`);
    const r = withJSON(await p.client.request({ target: '/?fault=1' }));
    assert.equal(r.json.code, want, r.text);
    assert.equal(withJSON(await p.client.request({})).json, 'alive');
    assert.equal(p.child.exitCode, null);
  });
}

test('endless recursion that nobody catches is a 500, many times over', async () => {
  await using p = await serve('module.exports = (ctx, cb) => { if (!ctx.query.fault) return cb(null, "alive"); const f = () => f() + 1; if (ctx.query.fault === "later") setImmediate(f); else f(); }');
  for (const fault of ['now', 'later', 'now', 'later']) {
    const r = withJSON(await p.client.request({ target: `/?fault=${fault}` }));
    assert.deepEqual([r.status, r.json.name], [500, 'RangeError']);
  }
  assert.equal(withJSON(await p.client.request({})).json, 'alive');
});

test('what a listener throws costs its own invocation, and no other that came with it', async () => {
  await using p = await serve('module.exports = (ctx, req, res) => { if (ctx.query.ok) return res.end("ok"); req.on("data", () => { throw new Error("in data"); }); }');
  const guilty = p.client.open({ method: 'POST', fields: [[1, 'guilty']] }, '', false);
  await p.client.sync();
  const answer = p.client.answer(guilty);
  p.client.socket.cork(); // what follows arrives in one piece
  p.client.data(guilty, 'x', true);
  const others = Array.from({ length: 3 }, () => p.client.request({ target: '/?ok=1' }));
  p.client.socket.uncork();
  const r = withJSON(await answer);
  assert.deepEqual([r.status, r.cause, r.json.message], [500, 'uncaught_exception', 'in data']);
  for (const o of await Promise.all(others)) assert.equal(o.status, 200);
  assert.equal((await p.log((l) => l.l === 'error')).r, 'guilty');
});

for (const [name, open] of [
  ['files', 'require("fs").openSync("/tmp")'],
  ['sockets', 'const s = require("dgram").createSocket("udp4"); s.bind(0); s.on("error", () => { full = true; }); if (full) throw 1; keep.push(s)'],
]) {
  test(`a process without free descriptors goes on answering, and takes new connections: ${name}`, async () => {
    await using p = await serve({ descriptors: 80, code: `const keep = []; let full = false;
      module.exports = (ctx, cb) => {
        if (!ctx.query.fill) return setImmediate(cb, null, "alive");
        (function more(n) { try { for (let i = 0; i < 20; i++) { ${open}; } } catch (e) { return cb(null, "full"); } if (n > 50) return cb(null, full ? "full" : "not"); setImmediate(more, n + 1); })(0);
      }` });
    assert.equal(withJSON(await p.client.request({ target: '/?fill=1' })).json, 'full');
    assert.equal(withJSON(await p.client.request({})).json, 'alive', 'on the connection that is there');
    let answer;
    for (const until = Date.now() + 5000; answer === undefined && Date.now() < until;) { // a refused connection is tried again
      await p.client.request({});
      const c = p.connect();
      answer = await c.request({}).catch(() => undefined);
      c.close();
    }
    assert.equal(answer && withJSON(answer).json, 'alive', 'on a new one');
    assert.equal(p.child.exitCode, null);
  });
}
