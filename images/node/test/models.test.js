'use strict';
// What code may export, what it gets, and what becomes of what it gives.

const test = require('node:test');
const assert = require('node:assert');
const { invoke, serve, withJSON } = require('./process.js');

const FIELDS = [[1, 'req-1'], [4, '192.0.2.7:5123'], [5, 'https'], [6, 'host.example:8080'], [7, '/acme/hello']];

const answers = [
  ['(cb)', 'module.exports = (cb) => cb(null, { a: 1 })', 200, { a: 1 }],
  ['(ctx, cb)', 'module.exports = (ctx, cb) => cb(null, ctx.id)', 200, 'req-1'],
  ['a top-level return', 'return (cb) => cb(null, 1)', 200, 1],
  ['a falsy result is an empty object', 'module.exports = (cb) => cb(null, 0)', 200, {}],
  ['no result is an empty object', 'module.exports = (cb) => cb()', 200, {}],
  ['async (ctx)', 'module.exports = async (ctx) => ({ q: ctx.query.x })', 200, { q: 'y' }],
  ['async ()', 'module.exports = async () => [1]', 200, [1]],
  ['async (ctx, cb) that calls back', 'module.exports = async (ctx, cb) => { cb(null, 1); }', 200, 1],
  ['a promise from a function that is not async', 'module.exports = (ctx, cb) => Promise.resolve({ p: 1 })', 200, { p: 1 }],
  ['only the first result counts', 'module.exports = (cb) => { cb(null, 1); cb(null, 2); cb(new Error("x")); }', 200, 1],
  ['an ES module by its syntax', 'import os from "node:os"; export default (cb) => cb(null, typeof os.cpus)', 200, 'function'],
  ['an ES module by its ending', { file: 'a.mjs', code: 'const x = await 3; export default async () => x' }, 200, 3],
  ['TypeScript, CommonJS', { file: 'a.ts', code: 'const n: number = 2; module.exports = (cb: Function) => cb(null, n as number)' }, 200, 2],
  ['TypeScript, ES module', { file: 'a.ts', code: 'interface A { x: number }\nexport default async (): Promise<A> => ({ x: 1 })' }, 200, { x: 1 }],
  ['a module compiled from ES syntax', 'exports.__esModule = true; exports.default = (cb) => cb(null, "d")', 200, 'd'],
  ['cb(err)', 'module.exports = (cb) => cb(new TypeError("no"))', 400, { code: 400, error: 'Script returned an error.', name: 'TypeError', message: 'no', details: 'TypeError: no' }],
  ['cb of what is no Error', 'module.exports = (cb) => cb("no")', 400, { code: 400, details: 'no' }],
  ['err.statusCode is honoured', 'module.exports = (cb) => { const e = new Error("gone"); e.statusCode = 410; cb(e); }', 410, { code: 410, message: 'gone' }],
  ['an odd err.statusCode is not', 'module.exports = (cb) => { const e = new Error("x"); e.statusCode = 200; cb(e); }', 400, { code: 400 }],
  ['a rejected promise', 'module.exports = async () => { throw new Error("r"); }', 400, { code: 400, message: 'r' }],
  ['a synchronous throw', 'module.exports = (cb) => { throw new Error("t"); }', 500, { code: 500, error: 'Script generated an unhandled synchronous exception.', message: 't' }],
  ['a throw of nothing', 'module.exports = (cb) => { throw undefined; }', 500, { details: 'undefined' }],
  ['an error that bites whoever looks', 'module.exports = (cb) => cb({ get message() { throw 1; }, toString() { throw 2; } })', 400, { code: 400 }],
  ['a circular result', 'module.exports = (cb) => { const a = {}; a.a = a; cb(null, a); }', 400, { code: 400, name: 'TypeError' }],
  ['a BigInt result', 'module.exports = (cb) => cb(null, { n: 1n })', 400, { code: 400 }],
  ['an error of a later turn', 'module.exports = (cb) => { setTimeout(() => { throw new Error("later"); }, 1); }', 500, { code: 500, error: 'Script generated an unhandled asynchronous exception.', message: 'later' }],
  ['a rejection that nobody handles', 'module.exports = (cb) => { Promise.reject(new Error("lost")); }', 500, { code: 500, error: 'Script generated an unhandled promise rejection.', message: 'lost' }],
  ['a stack overflow', 'module.exports = (cb) => { const f = () => f() + 1; f(); }', 500, { name: 'RangeError' }],
  ['process.exit()', 'module.exports = (cb) => { process.exit(3); }', 500, { code: 500, error: 'Script called process.exit().', message: 'process.exit(3) was called' }],
  ['a big result', 'module.exports = (cb) => cb(null, "x".repeat(1 << 20))', 200, 'x'.repeat(1 << 20)],
  ['letters beyond ASCII', 'module.exports = (cb) => cb(null, "grüß 🌍")', 200, 'grüß 🌍'],
];

for (const [name, record, status, want] of answers) {
  test(`answers: ${name}`, async () => {
    const r = await invoke(record, { target: '/acme/hello?x=y', fields: FIELDS });
    assert.equal(r.status, status, r.text);
    if (want !== null && typeof want === 'object' && !Array.isArray(want)) assert.partialDeepStrictEqual(r.json, want);
    else assert.deepEqual(r.json, want);
    assert.equal(r.headers['content-type'], 'application/json');
    assert.equal(r.headers['content-length'], String(r.body.length));
    assert.doesNotMatch(r.text, /harness/, 'the harness shows in no stack');
  });
}

const refused = [
  ['a syntax error', 'module.exports = (cb => {', 'syntax_error'],
  ['a syntax error in an ES module', { file: 'a.mjs', code: 'export default (' }, 'syntax_error'],
  ['a syntax error in TypeScript', { file: 'a.ts', code: 'const x: = 1' }, 'syntax_error'],
  ['code that throws', 'throw new Error("at once")', 'load_error'],
  ['an import of what is not there', 'import x from "no-such-package"; export default x', 'load_error'],
  ['a require of what is not there', 'require("no-such-package")', 'load_error'],
  ['no function', 'module.exports = { a: 1 }', 'not_a_function'],
  ['four arguments', 'module.exports = (a, b, c, d) => {}', 'bad_arity'],
  ['no argument, and not async', 'module.exports = () => {}', 'bad_arity'],
  ['a frozen error whose code is a number', 'throw Object.freeze(Object.assign(new Error("frozen"), { code: 42 }))', '42'],
  ['a frozen error whose code is long and odd', 'throw Object.freeze(Object.assign(new Error("frozen"), { code: "a-b " + "x".repeat(1e6) }))', `ab${'x'.repeat(62)}`],
  ['a frozen error whose code cannot be text', 'throw Object.freeze(Object.assign(new Error("frozen"), { code: { toString() { throw 1; } } }))', 'load_error'],
  ['a proxy that throws', 'throw new Proxy({}, { get() { throw 1; }, defineProperty() { throw 1; }, getPrototypeOf() { throw 1; } })', 'load_error'],
  ['an error with a huge message and stack', 'const e = new Error("m".repeat(1e6)); throw e', 'load_error'],
  ['an error whose message is none', 'throw Object.assign(new Error(""), { message: { a: 1 }, stack: 7 })', 'load_error'],
  ['a throw of nothing', 'throw undefined', 'load_error'],
  ['an error after Object.prototype.toJSON was set', 'Object.prototype.toJSON = () => 1; throw new Error("patched")', 'load_error'],
  ['process.exit while loading', 'process.exit(1)', 'load_error'],
];

for (const [name, record, code] of refused) {
  test(`cannot be loaded: ${name}`, async () => {
    await assert.rejects(serve(record), (e) => {
      assert.equal(e.failed?.code, code, e.stack);
      assert.equal(e.failed.status, 400);
      assert.ok(e.failed.message.length > 3 && e.failed.message.length <= 4096);
      assert.ok((e.failed.stack ?? '').length <= 16384);
      return true;
    });
  });
}

const show = 'module.exports = (ctx, cb) => cb(null, { data: ctx.data, headers: ctx.headers, query: ctx.query, params: ctx.params, secrets: ctx.secrets, meta: ctx.meta, body: ctx.body, raw: ctx.body_raw, buffer: Buffer.isBuffer(ctx.body_raw), token: ctx.token })';
const contexts = [
  ['query below signed parameters below secrets', { target: '/a?x=q&y=q&z=q&webtask_no_cache=1', fields: [[10, '{"y":"p","z":"p"}']] }, '', { data: { x: 'q', y: 'p', z: 's' }, query: { x: 'q', y: 'q', z: 'q' }, params: { y: 'p', z: 'p' }, secrets: { z: 's' }, meta: { m: '1' } }],
  ['secrets of the token above those of the function', { target: '/a?u=q', fields: [[12, '{"z":"t","u":"u"}']] }, '', { data: { z: 't', u: 'u' }, secrets: { z: 't', u: 'u' } }],
  ['a query parameter twice is a list', { target: '/a?x=1&x=2' }, '', { query: { x: ['1', '2'] } }],
  ['escapes, plus signs, empty and nameless parameters', { target: '/a?a=%C3%BC+b%26&b&=c&&d=1=2&%zz=1&__proto__=x' }, '', { query: { a: 'ü b&', b: '', '': 'c', d: '1=2', '%zz': '1' } }],
  ['JSON', { method: 'POST', headers: [['content-type', 'application/json; charset=utf-8']] }, '{"a":[1]}', { body: { a: [1] }, raw: '{"a":[1]}' }],
  ['a form', { method: 'POST', headers: [['content-type', 'application/x-www-form-urlencoded']] }, 'a=1&b=%20', { body: { a: '1', b: ' ' } }],
  ['bad JSON is only raw', { method: 'POST', headers: [['content-type', 'application/json']] }, '{"a":', { raw: '{"a":' }],
  ['bytes arrive as bytes', { method: 'POST', headers: [['content-type', 'application/octet-stream']] }, Buffer.from([0, 255]), { buffer: true, raw: { type: 'Buffer', data: [0, 255] } }],
  ['the body is merged with mb, below secrets', { method: 'POST', headers: [['content-type', 'application/json']], fields: [[9, '{"mb":1}']] }, '{"z":"b","w":"b"}', { data: { z: 's', w: 'b' } }],
  ['and not without', { method: 'POST', headers: [['content-type', 'application/json']] }, '{"w":"b"}', { data: { z: 's' } }],
  ['headers, with the host', { headers: [['x-a', '1'], ['x-a', '2'], ['authorization', 'Bearer tok']], fields: FIELDS }, '', { headers: { 'x-a': '1, 2', host: 'host.example:8080' }, token: 'tok' }],
];

for (const [name, head, body, want] of contexts) {
  test(`ctx: ${name}`, async () => {
    const r = await invoke({ code: show, secrets: { z: 's' }, meta: { m: '1' } }, head, body);
    assert.equal(r.status, 200, r.text);
    assert.partialDeepStrictEqual(r.json, want);
    if (want.data !== undefined) assert.deepEqual(r.json.data, want.data);
    if (want.query !== undefined) assert.deepEqual(r.json.query, want.query);
    if (name.startsWith('bad JSON')) assert.equal(r.json.body, undefined);
  });
}

test('ctx belongs to one request: what code does to it the next does not see', async () => {
  await using p = await serve({ code: 'module.exports = (ctx, cb) => { const was = ctx.secrets.a; ctx.secrets.a = "changed"; ctx.extra = 1; cb(null, was); }', secrets: { a: 'kept' } });
  for (let i = 0; i < 2; i++) assert.equal(withJSON(await p.client.request({})).json, 'kept');
});

test('HEAD gets the head alone', async () => {
  const r = await invoke('module.exports = (cb) => cb(null, "abc")', { method: 'HEAD' });
  assert.deepEqual([r.status, r.headers['content-length'], r.body.length], [200, '5', 0]);
});
