'use strict';
// Starts a function process as the cell does, and gives a connection to it.

const { fork } = require('node:child_process');
const { once, EventEmitter } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { Client } = require('./client.js');

const HARNESS = path.join(__dirname, '..', 'harness');
const FLAGS = [
  '--max-old-space-size=64', '--disable-proto=delete', '--no-force-async-hooks-checks', '--v8-pool-size=1',
  '--disable-warning=ExperimentalWarning', '--disable-warning=SecurityWarning',
  '--permission', '--allow-addons', '--allow-net', '--allow-inspector', '--inspect-port=127.0.0.1:0', `--allow-fs-read=${HARNESS}`, '--allow-fs-read=/function', '--allow-fs-read=/tmp', '--allow-fs-write=/tmp',
];

let count = 0;

/** A function process that serves record.code. Rejects with the error that the
 * harness reports when the code cannot be loaded. record.read is a directory
 * that it may read, record.descriptors how many it may have open. */
async function serve(record) {
  if (typeof record === 'string') record = { code: record };
  const flags = record.read === undefined ? FLAGS : [...FLAGS, `--allow-fs-read=${record.read}`];
  const [execPath, execArgv] = record.descriptors === undefined ? [process.execPath, flags]
    : ['/bin/sh', ['-c', `ulimit -n ${record.descriptors}; exec "$0" "$@"`, process.execPath, ...flags]];
  const child = fork(path.join(HARNESS, 'main.js'), { execPath, execArgv, env: {}, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const events = new EventEmitter(), logs = [];
  let stderr = '', out = '';
  child.stdout.on('data', (d) => {
    out += d;
    for (let i; (i = out.indexOf('\n')) >= 0; out = out.slice(i + 1)) {
      const line = out.slice(0, i);
      logs.push(line[0] === '\x1e' ? JSON.parse(line.slice(1)) : { raw: line });
      events.emit('log');
    }
  });
  child.stderr.on('data', (d) => { stderr += d; });
  const said = (t) => new Promise((resolve, reject) => {
    const take = (m) => { if (t.includes(m.t)) { child.off('message', take); resolve(m); } };
    child.on('message', take);
    child.once('exit', (code, signal) => reject(new Error(`ended before it said ${t}: ${code} ${signal} ${stderr}`)));
  });
  const spare = await said(['spare']);
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'fn-')), sock = path.join(dir, `${count++}.sock`);
  const server = net.createServer();
  await new Promise((go) => server.listen(`${sock}.new`, go));
  fs.renameSync(`${sock}.new`, sock); // so that closing our end leaves the file
  const answer = said(['serving', 'failed']);
  child.send({ op: 'load', file: 'test.js', meta: {}, secrets: {}, ...record }, server._handle);
  const m = await answer;
  server.close(); // or connections would come to us, too
  const exited = once(child, 'exit');
  const p = {
    child, logs, said, sock, spare, client: null, exited,
    stderr: () => stderr,
    connect: () => new Client(sock),
    async log(test) {
      for (;;) {
        const found = logs.find(test);
        if (found !== undefined) return found;
        await once(events, 'log');
      }
    },
    async stop() {
      this.client?.close();
      child.kill('SIGKILL');
      await exited;
      fs.rmSync(dir, { recursive: true });
    },
    async [Symbol.asyncDispose]() { await this.stop(); },
  };
  if (m.t === 'failed') {
    await p.stop();
    throw Object.assign(new Error(m.error.message), { failed: m.error });
  }
  p.client = p.connect();
  return p;
}

/** Serves record, sends one request, returns its answer with json parsed. */
async function invoke(record, head = {}, body = '') {
  await using p = await serve(record);
  return withJSON(await p.client.request(head, body));
}

function withJSON(answer) {
  answer.text = answer.body.toString();
  try { answer.json = JSON.parse(answer.text); } catch { /* not JSON */ }
  return answer;
}

module.exports = { serve, invoke, withJSON, HARNESS };
