'use strict';
// A spare serves a few requests to itself before it says that it is one: the
// first real request is then three times faster.

const net = require('node:net');
const C = require('./codec.js');
const { model } = require('./models.js');

const ROUNDS = 8;

/** Runs each programming model over a real socket, then forgets them. */
async function warm(accept, served) {
  // Not to be guessed: the tenant's other functions could bind or call it.
  const name = `\0bulkhead-warm-${Math.random()}${Math.random()}`;
  const server = net.createServer(accept);
  await new Promise((go) => server.listen(name, go));
  const samples = [
    (ctx, cb) => cb(null, { hello: ctx.query.name, n: ctx.data.n }),
    async (ctx) => ({ hello: ctx.headers.accept }),
    (ctx, req, res) => { res.setHeader('content-type', 'text/plain'); res.end(req.url); },
    { fetch: (request) => Response.json({ url: request.url, agent: request.headers.get('user-agent') }) },
  ];
  const before = { ...served };
  for (const sample of samples) {
    Object.assign(served, model(sample));
    await requests(name, ROUNDS);
  }
  Object.assign(served, before);
  await new Promise((go) => { server.close(go); });
}

/** Sends n requests on one connection, one after another. */
function requests(path, n) {
  return new Promise((go, fail) => {
    const socket = net.connect(path);
    let id = 0, have = Buffer.alloc(0);
    const next = () => { id++; if (id > n) socket.end(); else socket.write(request(id)); };
    socket.on('error', fail).on('close', go);
    socket.on('data', (chunk) => {
      have = Buffer.concat([have, chunk]);
      while (have.length >= C.FRAME) {
        const size = C.FRAME + C.u32(have, 0);
        if (have.length < size) return;
        const ended = have[5] === C.END;
        have = have.subarray(size);
        if (ended) next();
      }
    });
    socket.write(hello());
    next();
  });
}

function hello() {
  const b = Buffer.alloc(C.FRAME + 10);
  b.write('BHF\x01runner', C.putFrame(b, 0, 10, C.HELLO, 0, 0), 'latin1');
  return b;
}

function request(id) {
  const target = '/warm/up?name=spare', headers = ['accept', '*/*', 'user-agent', 'bulkhead'];
  const length = 1 + 4 + 2 + target.length + C.headersSize(headers), b = Buffer.alloc(C.FRAME + length);
  let p = C.putFrame(b, 0, length, C.REQUEST, C.END, id);
  b[p++] = 0;
  b[p++] = 3;
  p += b.write('GET', p, 'latin1');
  C.putU16(b, p, target.length);
  p += 2 + b.write(target, p + 2, 'latin1');
  C.putHeaders(b, p, headers);
  return b;
}

module.exports = { warm };
