'use strict';
// (ctx, req, res) and fetch: bodies as streams, both ways, with credit.

const test = require('node:test');
const assert = require('node:assert');
const crypto = require('node:crypto');
const { serve, invoke, withJSON } = require('./process.js');

const WINDOW = 262144;
const FIELDS = [[1, 'r'], [4, '[2001:db8::1]:5123'], [5, 'https'], [6, 'host.example'], [7, '/acme/hello']];

test('req looks like node:http\'s, mounted at the function\'s base', async () => {
  const r = await invoke(`module.exports = (ctx, req, res) => res.end(JSON.stringify([req.method, req.url, req.originalUrl, req.baseUrl, req.headers, req.httpVersion, req.socket.remoteAddress, req.socket.encrypted, req instanceof require('http').IncomingMessage, res instanceof require('http').ServerResponse]))`,
    { method: 'PUT', target: '/acme/hello/a?b=c', fields: FIELDS, headers: [['x-a', 'b'], ['cookie', 'c=1']] });
  assert.deepEqual(r.json, ['PUT', '/a?b=c', '/acme/hello/a?b=c', '/acme/hello', { 'x-a': 'b', cookie: 'c=1', host: 'host.example' }, '1.1', '2001:db8::1', true, true, true]);
});

const responses = [
  ['headers, lists and status', 'res.statusCode = 201; res.setHeader("X-A", ["1", "2"]); res.setHeader("Set-Cookie", ["a=1", "b=2"]); res.end("ok")', { status: 201, list: [['x-a', '1'], ['x-a', '2'], ['set-cookie', 'a=1'], ['set-cookie', 'b=2'], ['content-length', '2']], text: 'ok' }],
  ['writeHead with an object', 'res.writeHead(404, "Nope", { "Content-Type": "text/plain" }); res.end("no")', { status: 404, list: [['content-type', 'text/plain']], text: 'no' }],
  ['writeHead with a flat list', 'res.writeHead(200, ["a", "1", "a", "2"]).end()', { status: 200, list: [['a', '1'], ['a', '2']], text: '' }],
  ['writes and an end', 'res.write("a"); res.write(Buffer.from("b")); setTimeout(() => res.end("c"), 1)', { status: 200, list: [], text: 'abc' }],
  ['an encoding', 'res.end("616263", "hex")', { status: 200, list: [['content-length', '3']], text: 'abc' }],
  ['204 has no body', 'res.writeHead(204); res.end("never")', { status: 204, list: [], text: '' }],
  ['hop-by-hop headers stay here', 'res.setHeader("connection", "close"); res.setHeader("transfer-encoding", "chunked"); res.end("x")', { status: 200, list: [['content-length', '1']], text: 'x' }],
  ['a pipeline, and finished', 'const { pipeline, finished, Readable } = require("stream"); finished(res, (e) => console.log("finished", e ?? "well")); pipeline(Readable.from(["a", "b"]), res, (e) => console.log("pipeline", e ?? "well"))', { status: 200, list: [], text: 'ab' }],
  ['headers too large for a frame become a 500', 'for (let i = 0; i < 20; i++) res.setHeader("h" + i, "x".repeat(4000)); res.end("x")', { status: 500 }],
  ['a 1xx that is no response becomes a 500', 'res.writeHead(103).end()', { status: 500 }],
  ['101 is no response either', 'try { res.writeHead(101); } catch (e) { res.end(e.name + " " + e.code); }', { status: 200, text: 'RangeError ERR_HTTP_INVALID_STATUS_CODE' }],
  ['101 as statusCode becomes a 500', 'res.statusCode = 101; res.end()', { status: 500 }],
  ['101 put in after writeHead becomes a 500', 'res.writeHead(200); res.statusCode = 101; res.end("x")', { status: 500 }],
  ['without an upgrade header there is no socket to write a 101 to', 'res.end(typeof req.socket.write)', { status: 200, text: 'undefined' }],
  ['a stream piped in', 'require("stream").Readable.from(["a", "b"]).pipe(res)', { status: 200, list: [], text: 'ab' }],
];

for (const [name, code, want] of responses) {
  test(`res: ${name}`, async () => {
    const r = await invoke(`module.exports = (ctx, req, res) => { ${code} }`);
    assert.partialDeepStrictEqual({ status: r.status, list: r.list, text: r.text }, want);
    if (want.list !== undefined) assert.equal(r.list.length, want.list.length);
  });
}

const statuses = [
  ['a Response of 101', 'fetch: () => new Response(null, { status: 101 })'],
  ['one that claims a status of 101', 'fetch: () => Object.defineProperty(new Response(null), "status", { value: 101 })'],
  ['one that changes its status', 'fetch: () => { let n = 0; return Object.defineProperty(new Response(null), "status", { get: () => (n++ === 0 ? 200 : 101) }); }'],
  ['an error Response', 'fetch: () => Response.error()'],
];

for (const [name, code] of statuses) {
  test(`fetch: ${name} becomes a 500`, async () => {
    assert.equal((await invoke(`module.exports = { ${code} }`)).status, 500);
  });
}

test('an upgrade is raw bytes both ways, and only 101 or a response may begin it', async () => {
  await using p = await serve(`module.exports = (ctx, req, res) => { req.socket.on('error', () => {}); req.socket.write('HTTP/1.1 ' + ctx.query.status + ' X\\r\\nupgrade: echo\\r\\n\\r\\n'); req.socket.pipe(req.socket); }`);
  const headers = [['upgrade', 'echo']], open = (status) => {
    const first = p.client.until((f) => f.type === 'RESPONSE' || f.type === 'RESET');
    return [p.client.open({ target: `/?status=${status}`, headers }, '', false), first];
  };
  const [id, head] = open(101);
  assert.equal((await head).status, 101);
  const echoed = p.client.until((f) => f.type === 'DATA' && f.stream === id);
  p.client.data(id, 'hi');
  assert.equal((await echoed).body.toString(), 'hi');
  assert.equal((await open(400)[1]).status, 400);
  for (const status of [100, 103, 199]) assert.equal((await open(status)[1]).type, 'RESET', `${status}`);
});

for (const [name, head] of [
  ['a control character in a name', 'HTTP/1.1 101 X\r\nUpgrade: web\x01socket\r\n\r\n'],
  ['a zero in a value', 'HTTP/1.1 101 X\r\nupgrade: echo\r\nfoo: a\0b\r\n\r\n'],
  ['a name that is none', 'HTTP/1.1 101 X\r\nup(grade: echo\r\n\r\n'],
  ['a line without a colon', 'HTTP/1.1 101 X\r\nupgrade\r\n\r\n'],
  ['a name that is too long', `HTTP/1.1 101 X\r\n${'n'.repeat(256)}: 1\r\n\r\n`],
  ['a head that is too large', `HTTP/1.1 101 X\r\n${`a: ${'x'.repeat(60)}\r\n`.repeat(1100)}\r\n`],
  ['an odd status', 'HTTP/1.1 0x65 X\r\n\r\n'],
]) {
  test(`${name} in a head written to the socket costs that stream only`, async () => {
    await using p = await serve(`module.exports = (ctx, req, res) => {
      if (!req.headers.upgrade) { setTimeout(() => res.end('beside'), 50); return; }
      req.socket.on('error', (e) => console.log('its socket errors')); req.socket.write(Buffer.from(${JSON.stringify(head)}, 'latin1')); }`);
    const beside = p.client.request({});
    const r = await p.client.answer(p.client.open({ headers: [['upgrade', 'echo']] }, '', false));
    assert.notEqual(r.reset, undefined);
    await p.log((l) => l.m === 'its socket errors');
    assert.equal((await beside).body.toString(), 'beside');
  });
}

for (const [name, code] of [
  ['(ctx, cb)', 'module.exports = (ctx, cb) => cb(null, ctx.body ?? "none")'],
  ['async (ctx)', 'module.exports = async (ctx) => ctx.body ?? "none"'],
  ['(ctx, req, res)', 'module.exports = (ctx, req, res) => { req.on("end", () => res.end(JSON.stringify("none"))); req.resume(); }'],
  ['fetch', 'export default { fetch: async (request) => Response.json(await request.text() || "none") }'],
]) {
  test(`a request for an upgrade has no body, and may be answered as any other: ${name}`, async () => {
    await using p = await serve(code);
    const r = withJSON(await p.client.answer(p.client.open({ headers: [['upgrade', 'h2c']] }, '', false)));
    assert.deepEqual([r.status, r.json], [200, 'none']);
  });
}

test('a request body is echoed, whatever its size', async () => {
  await using p = await serve('module.exports = (ctx, req, res) => req.pipe(res)');
  for (const size of [0, 1, 1000, 70000, 3_000_000]) {
    const body = crypto.randomBytes(size), id = p.client.open({ method: 'POST' }, body.subarray(0, 500), size <= 500);
    const answer = p.client.answer(id);
    await pour(p.client, id, body.subarray(500));
    assert.ok((await answer).body.equals(body), `${size} bytes`);
  }
});

/** Sends body in DATA frames within the window that the function grants. */
async function pour(client, id, body) {
  let credit = WINDOW - 500;
  const take = (f) => { if (f.type === 'WINDOW' && f.stream === id) credit += f.credit; };
  client.on('frame', take);
  const more = () => client.until((f) => f.type === 'WINDOW' && f.stream === id);
  while (body.length !== 0) {
    const n = Math.min(body.length, credit, 65536);
    if (n === 0) { await more(); continue; }
    client.data(id, body.subarray(0, n), n === body.length);
    credit -= n;
    body = body.subarray(n);
  }
  client.off('frame', take);
}

test('a request body that nobody reads is not granted for ever', async () => {
  await using p = await serve('module.exports = (ctx, req, res) => { req.once("readable", () => {}); }');
  const id = p.client.open({ method: 'POST' }, '', false);
  let granted = 0;
  p.client.on('frame', (f) => { if (f.type === 'WINDOW') granted += f.credit; });
  for (let i = 0; i < 4; i++) p.client.data(id, Buffer.alloc(65536));
  await p.client.sync();
  assert.ok(granted <= 2 * 65536, `granted ${granted}`);
});

for (const [name, code] of [
  ['(ctx, req, res)', 'module.exports = (ctx, req, res) => { let n = 0; const go = () => { while (n < 64) { n++; if (!res.write(Buffer.alloc(32768, n))) { res.once("drain", go); return; } } res.end(); }; go(); }'],
  ['fetch', 'export default { fetch: () => { let n = 0; return new Response(new ReadableStream({ pull(c) { if (n++ === 64) c.close(); else c.enqueue(new Uint8Array(32768).fill(n)); } })); } }'],
]) {
  test(`a response is held back at the window and goes on with credit: ${name}`, async () => {
    await using p = await serve(code);
    let got = 0;
    const id = p.client.open({});
    p.client.on('frame', (f) => { if (f.body) got += f.body.length; });
    const answer = p.client.answer(id, { grant: false });
    if (got !== WINDOW) await p.client.until(() => got === WINDOW);
    await p.client.sync();
    assert.equal(got, WINDOW, 'not a byte over the window');
    p.client.window(id, 1 << 24);
    assert.equal((await answer).body.length, 64 * 32768);
  });

  test(`a response that nobody wants any more ends: ${name}`, async () => {
    await using p = await serve(code);
    const id = p.client.open({});
    await p.client.until((f) => f.stream === id && f.type === 'RESPONSE');
    p.client.reset(id, 1, 'the client has gone');
    await p.client.sync();
    p.child.send({ op: 'ping', n: 1 });
    assert.equal((await p.said(['pong'])).inflight, 0);
  });
}

test('a client that goes closes req and res', async () => {
  await using p = await serve('module.exports = (ctx, req, res) => { req.on("aborted", () => console.log("aborted")); res.on("close", () => console.log("closed", res.writableEnded)); req.resume(); }');
  const id = p.client.open({ method: 'POST' }, 'x', false);
  await p.client.sync();
  p.client.reset(id, 1);
  await p.log((l) => l.m === 'closed false');
  await p.log((l) => l.m === 'aborted');
});

test('an error after the head has gone breaks the stream off', async () => {
  await using p = await serve('module.exports = (ctx, req, res) => { res.write("half"); setTimeout(() => { throw new Error("x"); }, 1); }');
  const r = await p.client.request({});
  assert.deepEqual([r.status, r.body.toString(), r.reset.code], [200, 'half', 5]);
});

test('pb=1 parses the body for (ctx, req, res) too', async () => {
  const r = await invoke('module.exports = (ctx, req, res) => res.end(JSON.stringify(ctx.body))', { method: 'POST', headers: [['content-type', 'application/json']], fields: [[9, '{"pb":1}']] }, '{"a":1}');
  assert.deepEqual(r.json, { a: 1 });
});

const trailers = [['x-sum', 'a1'], ['server-timing', 'a;dur=1']];

for (const [name, code, want] of [
  ['after writes', 'res.write("a"); res.addTrailers({ "X-Sum": "a1" }); res.addTrailers([["Server-Timing", "a;dur=1"]]); res.end("b")', { text: 'ab', trailers }],
  ['after one end()', 'res.addTrailers({ "X-Sum": "a1", "server-timing": "a;dur=1" }); res.end("ab")', { text: 'ab', trailers }],
  ['after a body over the window', 'res.addTrailers({ "X-Sum": "a1", "server-timing": "a;dur=1" }); res.end("x".repeat(1e6))', { text: 'x'.repeat(1e6), trailers }],
  ['what may not trail is left out', 'res.addTrailers({ "X-Sum": "a1", "Content-Length": "9", "set-cookie": "a=b", "x-bulkhead-cause": "c", "server-timing": "a;dur=1" }); res.end("ab")', { text: 'ab', trailers }],
  ['none where the length was told', 'res.setHeader("content-length", 2); res.addTrailers({ "X-Sum": "a1" }); res.end("ab")', { text: 'ab' }],
  ['none without a body', 'res.statusCode = 204; res.addTrailers({ "X-Sum": "a1" }); res.end()', { text: '' }],
  ['a value that is none', 'try { res.addTrailers({ "x-sum": "a\\r\\nb: c" }); } catch (e) { res.end(e.code); }', { text: 'ERR_INVALID_CHAR' }],
]) {
  test(`trailers of an answer: ${name}`, async () => {
    const r = await invoke(`module.exports = (ctx, req, res) => { ${code} }`);
    assert.deepEqual({ text: r.text, trailers: r.trailers }, { trailers: undefined, ...want });
  });
}

test('a HEAD gets no trailers', async () => {
  const r = await invoke('module.exports = (ctx, req, res) => { res.addTrailers({ "x-sum": "a1" }); res.end("ab"); }', { method: 'HEAD' });
  assert.deepEqual([r.status, r.body.length, r.trailers], [200, 0, undefined]);
});

for (const [name, code, want] of [
  ['(ctx, req, res)', 'module.exports = async (ctx, req, res) => { const early = { ...req.trailers }; let b = ""; for await (const d of req) b += d; res.end(JSON.stringify([early, b, req.trailers, req.rawTrailers, req.complete])); }', [{}, 'ab', { 'x-sum': 'a1', 'x-list': '1, 2' }, ['x-sum', 'a1', 'x-list', '1', 'x-list', '2'], true]],
  ['(ctx, cb), which has no use for them', 'module.exports = (ctx, cb) => cb(null, ctx.body_raw)', 'ab'],
  ['fetch, nor has it', 'export default { fetch: async (r) => Response.json(await r.text()) }', 'ab'],
]) {
  test(`trailers of a request: ${name}`, async () => {
    await using p = await serve(code);
    const id = p.client.open({ method: 'POST', headers: [['content-type', 'text/plain']] }, 'a', false), answer = p.client.answer(id);
    p.client.data(id, 'b');
    p.client.trailers(id, [['x-sum', 'a1'], ['x-list', '1'], ['content-length', '7'], ['x-list', '2']]);
    assert.deepEqual(withJSON(await answer).json, want);
  });
}

const fetches = [
  ['text', 'new Response("hi", { status: 201, headers: { "X-A": "b" } })', 201, { 'x-a': 'b', 'content-type': 'text/plain;charset=UTF-8', 'content-length': '2' }, 'hi'],
  ['JSON', 'Response.json({ m: request.method, u: request.url })', 200, { 'content-type': 'application/json', 'content-length': '56' }, '{"m":"POST","u":"https://host.example/acme/hello/a?b=c"}'],
  ['bytes', 'new Response(new Uint8Array([65, 66]))', 200, { 'content-length': '2' }, 'AB'],
  ['nothing', 'new Response(null, { status: 204 })', 204, {}, ''],
  ['a redirection', 'Response.redirect("https://example.com/x", 303)', 303, { location: 'https://example.com/x', 'content-length': '0' }, ''],
  ['a blob', 'new Response(new Blob(["bl", "ob"], { type: "text/x" }))', 200, { 'content-type': 'text/x' }, 'blob'],
  ['a form', 'new Response(new URLSearchParams({ a: "1 2" }))', 200, { 'content-type': 'application/x-www-form-urlencoded;charset=UTF-8', 'content-length': '5' }, 'a=1+2'],
  ['the request\'s body, streamed through', 'new Response(request.body)', 200, {}, 'body'],
  ['text()', 'new Response(await request.text() + request.bodyUsed)', 200, { 'content-type': 'text/plain;charset=UTF-8', 'content-length': '8' }, 'bodytrue'],
  ['arrayBuffer()', 'new Response(await request.arrayBuffer())', 200, { 'content-length': '4' }, 'body'],
  ['bytes()', 'new Response(await request.bytes())', 200, { 'content-length': '4' }, 'body'],
  ['a clone of each', 'new Response(await request.clone().text() + await request.text() + await new Response("x").clone().text())', 200, { 'content-type': 'text/plain;charset=UTF-8', 'content-length': '9' }, 'bodybodyx'],
  ['headers', 'new Response([...request.headers].join("|") + request.headers.get("X-Q"))', 200, { 'content-type': 'text/plain;charset=UTF-8', 'content-length': '26' }, 'host,host.example|x-q,vvvv'],
  ['cookies', 'const h = new Headers(); h.append("set-cookie", "a=1"); h.append("set-cookie", "b=2"); return new Response("", { headers: h }', 200, null, ''],
  ['env holds the secrets', 'new Response(env.k)', 200, { 'content-type': 'text/plain;charset=UTF-8', 'content-length': '1' }, 'v'],
  ['a form with a file', 'const f = new FormData(); f.append("a", "1"); f.append("b", new Blob(["file"]), "f.txt"); const g = await new Response(f).formData(); return new Response(g.get("a") + await g.get("b").text() + g.get("b").name', 200, null, '1filef.txt'],
  ['an async iterable', 'new Response((async function* () { yield Buffer.from("a"); yield Buffer.from("b"); })())', 200, {}, 'ab'],
  ['a response that fetch() gave', 'await fetch("data:text/x,fetched")', 200, { 'content-type': 'text/x' }, 'fetched'],
  ['a Request passed to fetch()', 'await fetch(new Request("data:text/y,req", { headers: { a: "b" } }))', 200, { 'content-type': 'text/y' }, 'req'],
  ['a Request made of the request', 'const r = new Request("http://x/", request); return new Response(r.method + await r.text() + r.headers.get("x-q")', 200, null, 'POSTbodyvv'],
  ['a signal that has not fired', 'new Response(String(request.signal.aborted))', 200, null, 'false'],
  ['a body that was read from by hand is used', 'const r = new Response(new Blob(["ab"]).stream()), reader = r.body.getReader(); await reader.read(); reader.releaseLock(); return new Response(String([r.bodyUsed, await r.text().catch((e) => e.name)])', 200, null, 'true,TypeError'],
  ['a used body gives nothing again', 'const r = new Response("x"); await r.text(); return new Response(String(r.bodyUsed) + await new Response(r.body).text().catch((e) => e.name)', 200, null, 'true'],
  ['tee', 'const [a, b] = request.body.tee(); return new Response(await new Response(a).text() + await new Response(b).text()', 200, null, 'bodybody'],
  ['a stream transformed on its way', 'new Response(request.body.pipeThrough(new CompressionStream("gzip")).pipeThrough(new DecompressionStream("gzip")))', 200, {}, 'body'],
  ['text decoded from a stream', 'let s = ""; for await (const part of request.body.pipeThrough(new TextDecoderStream())) s += part; return new Response(s', 200, null, 'body'],
  ['a Request changed', 'const r = new Request(request, { method: "PUT", headers: { "x-z": "1" } }); return new Response(r.method + r.headers.get("x-z") + r.headers.get("x-q") + await r.text()', 200, null, 'PUT1nullbody'],
  ['a Response made of another', 'const o = new Response("a", { status: 203, headers: { x: "1" } }); return new Response(o.body, o', 203, { x: '1', 'content-type': 'text/plain;charset=UTF-8' }, 'a'],
  ['headers changed afterwards', 'const r = new Response("x"); r.headers.set("x-a", 1); r.headers.append("x-b", "2"); r.headers.delete("content-type"); return (r', 200, { 'x-a': '1', 'x-b': '2', 'content-length': '1' }, 'x'],
  ['Node\'s own Response', 'const R = (await fetch("data:,")).constructor; return new R("native", { status: 202 }', 202, { 'content-type': 'text/plain;charset=UTF-8' }, 'native'],
  ['a urlencoded form', 'const f = await new Request("http://x/", { method: "POST", body: new URLSearchParams("a=1&b=2") }).formData(); return new Response(f.get("a") + f.get("b")', 200, null, '12'],
  ['a blob\'s type', 'new Response((await new Response("x").blob()).type)', 200, null, 'text/plain;charset=utf-8'],
  ['an error Response', 'const r = Response.error(); return new Response(r.type + r.status', 200, null, 'error0'],
  ['broken JSON', 'const e = await request.json().catch((e) => e); return new Response(e.name', 200, null, 'SyntaxError'],
  ['instanceof', 'new Response(String([request instanceof Request, new Response() instanceof Response, new Request("http://x/") instanceof Request, await new Request("http://x/", { method: "POST", body: "n" }).text()]))', 200, null, 'true,true,true,n'],
];

for (const [name, expression, status, headers, text] of fetches) {
  for (const how of ['inline', 'streamed']) {
    test(`fetch: ${name}, request ${how}`, async () => {
      const body = expression.includes('return ') ? `${expression});` : `return ${expression};`;
      await using p = await serve({ code: `export default { async fetch(request, env, ctx) { ${body} } }`, secrets: { k: 'v' } });
      const head = { method: 'POST', target: '/acme/hello/a?b=c', fields: FIELDS, headers: [['x-q', 'vv']] };
      let id;
      if (how === 'inline') id = p.client.open(head, 'body');
      else { id = p.client.open(head, 'bo', false); p.client.data(id, 'd'); p.client.data(id, 'y', true); }
      const r = withJSON(await p.client.answer(id));
      assert.equal(r.status, status, r.text);
      if (headers !== null && name !== 'headers') assert.deepEqual(r.headers, headers);
      if (name === 'cookies') assert.deepEqual(r.list.filter(([n]) => n === 'set-cookie'), [['set-cookie', 'a=1'], ['set-cookie', 'b=2']]);
      assert.equal(r.text, text);
    });
  }
}

test('fetch: bodies go both ways at a time', async () => {
  await using p = await serve('export default { fetch: (request) => new Response(request.body.pipeThrough(new TransformStream({ transform(chunk, out) { out.enqueue(Buffer.from(`<${Buffer.from(chunk)}>`)); } }))) }');
  const id = p.client.open({ method: 'POST' }, '', false), head = p.client.until((f) => f.type === 'RESPONSE');
  const next = () => p.client.until((f) => f.stream === id && f.type === 'DATA');
  p.client.data(id, 'a');
  assert.equal((await head).end, false, 'the answer has begun, the request goes on');
  for (const part of ['b', 'c']) {
    const echoed = p.client.until((f) => f.type === 'DATA' && f.body.toString() === `<${part}>`);
    p.client.data(id, part);
    await echoed;
  }
  const end = next();
  p.client.data(id, '', true);
  assert.equal((await end).end, true);
});

test('fetch: a client that goes aborts the request\'s signal', async () => {
  await using p = await serve('export default { fetch(request) { request.signal.addEventListener("abort", () => console.log("aborted")); return new Promise(() => {}); } }');
  const id = p.client.open({});
  await p.client.sync();
  p.client.reset(id, 1);
  await p.log((l) => l.m === 'aborted');
});

test('a process that does not call fetch() does not load undici', async () => {
  const r = await invoke('export default { fetch: async (request) => Response.json([await request.text(), process.moduleLoadList.filter((m) => /undici/.test(m))]) }', { method: 'POST' }, 'x');
  assert.deepEqual(r.json, ['x', []]);
});

for (const [name, code, error] of [
  ['what is no Response', 'return 1', 'Script returned something else than a Response.'],
  ['headers too large for a frame', 'return new Response("", { headers: Object.fromEntries(Array.from({ length: 20 }, (_, i) => ["h" + i, "x".repeat(4000)])) })', 'Script returned something else than a Response.'],
  ['a used body', 'const r = new Response("x"); await r.text(); return r', 'Script returned something else than a Response.'],
  ['an exception', 'throw new Error("x")', 'Script generated an unhandled promise rejection.'],
]) {
  test(`fetch: ${name} is a 500`, async () => {
    const r = await invoke(`export default { async fetch() { ${code} } }`);
    assert.deepEqual([r.status, r.json.error], [500, error]);
  });
}
