'use strict';
// The Webtask contract, rule by rule: what code may be, what it is given, and
// what its clients get. Each row is a sentence of it.

const test = require('node:test');
const assert = require('node:assert');
const { invoke, serve } = require('./process.js');

const json = { method: 'POST', headers: [['content-type', 'application/json']] };
const form = { method: 'POST', headers: [['content-type', 'application/x-www-form-urlencoded']] };
const claims = (c) => ({ fields: [[9, JSON.stringify(c)]] });
const RETURNED = 'Script returned an error.', THREW = 'Script generated an unhandled synchronous exception.';
const give = (expression) => `module.exports = (ctx, cb) => cb(null, ${expression})`;
const fail = (expression) => `module.exports = (ctx, cb) => cb(${expression})`;
const binary = Buffer.from([0, 0xff, 0xfe, 0x80, 0x0a]);

// A sentence, the code, the request's head, its body, the status, the answer.
const rules = [
  ['arity 1 is (cb)', 'module.exports = (cb) => cb(null, "one")', {}, '', 200, 'one'],
  ['arity 2 is (ctx, cb)', give('ctx.query.a'), { target: '/?a=b' }, '', 200, 'b'],
  ['arity 3 is (ctx, req, res)', 'module.exports = (ctx, req, res) => res.end(JSON.stringify(req.method + ctx.query.a))', { target: '/?a=b' }, '', 200, 'GETb'],
  ['a top-level return is what is exported', 'return (ctx, cb) => cb(null, "returned")', {}, '', 200, 'returned'],
  ['+ an async function\'s promise is the result', 'module.exports = async (ctx) => ctx.query.a', { target: '/?a=b' }, '', 200, 'b'],
  ['+ an ES module\'s default export is the function', 'export default (cb) => cb(null, import.meta.url.startsWith("file:"))', {}, '', 200, true],
  ['+ an object with fetch() is asked with a Request', 'export default { fetch: (request, env, ctx) => Response.json([request.method, env.s, ctx.query.a]) }', { target: '/?a=b' }, '', 200, ['GET', 'secret', 'b']],
  ['+ .ts is TypeScript', { file: 'f.ts', code: 'type A = string;\nmodule.exports = (ctx: any, cb: (e: unknown, v: A) => void): void => cb(null, "ts" as A)' }, {}, '', 200, 'ts'],
  ['+ .mts is TypeScript as an ES module', { file: 'f.mts', code: 'import { sep } from "node:path";\nconst a: string = sep;\nexport default async (): Promise<string> => a' }, {}, '', 200, '/'],
  ['+ .cts is TypeScript as CommonJS', { file: 'f.cts', code: 'const p = require("node:path") as { sep: string };\nmodule.exports = async () => p.sep' }, {}, '', 200, '/'],

  ['ctx has what it should', give('["data", "headers", "id", "params", "query", "secrets", "meta"].filter((k) => ctx[k] === undefined)'), { fields: [[1, 'r']] }, '', 200, []],
  ['data is query below params below secrets', give('ctx.data'), { target: '/?q=q&p=q&s=q', fields: [[10, '{"p":"param","s":"param"}']] }, '', 200, { q: 'q', p: 'param', s: 'secret' }],
  ['the body is not merged by itself', give('ctx.data'), json, '{"b":1}', 200, { s: 'secret' }],
  ['with mb it is', give('ctx.data'), { ...json, ...claims({ mb: 1 }) }, '{"b":1}', 200, { b: 1, s: 'secret' }],
  ['but never over secrets', give('ctx.data'), { ...json, ...claims({ mb: 1 }) }, '{"s":"mine"}', 200, { s: 'secret' }],
  ['with mb a form is merged as well', give('ctx.data'), { ...form, ...claims({ mb: 1 }) }, 'b=2', 200, { b: '2', s: 'secret' }],
  ['with mb a list is not', give('ctx.data'), { ...json, ...claims({ mb: 1 }) }, '[1]', 200, { s: 'secret' }],
  ['webtask_ parameters are hidden from query', give('ctx.query'), { target: '/?webtask_no_cache=1&a=b&webtask_url=x' }, '', 200, { a: 'b' }],
  ['and from data', give('ctx.data'), { target: '/?webtask_no_cache=1&a=b' }, '', 200, { a: 'b', s: 'secret' }],
  ['meta is the function\'s', give('ctx.meta'), {}, '', 200, { m: 'meta' }],
  ['module.webtask has meta, params and secrets', 'const { meta, params, secrets } = module.webtask; module.exports = (cb) => cb(null, { meta, params, secrets })', {}, '', 200, { meta: { m: 'meta' }, params: {}, secrets: { s: 'secret' } }],

  ['JSON is parsed for arity 2', give('[ctx.body, ctx.body_raw]'), json, '{"a":1}', 200, [{ a: 1 }, '{"a":1}']],
  ['JSON of a type of its own is, too', give('ctx.body'), { method: 'POST', headers: [['content-type', 'application/vnd.api+json; charset=utf-8']] }, '{"a":1}', 200, { a: 1 }],
  ['a urlencoded form is parsed', give('ctx.body'), form, 'a=1&b=x+y', 200, { a: '1', b: 'x y' }],
  ['bad JSON: no body, only body_raw, no error', give('["body" in ctx && ctx.body === undefined, ctx.body_raw]'), json, '{"a":', 200, [true, '{"a":']],
  ['the 3-argument form gets the untouched stream', 'module.exports = async (ctx, req, res) => { let b = ""; for await (const d of req) b += d; res.end(JSON.stringify([ctx.body === undefined, b])); }', json, '{"a":1}', 200, [true, '{"a":1}']],
  ['unless pb', 'module.exports = (ctx, req, res) => res.end(JSON.stringify(ctx.body))', { ...json, ...claims({ pb: 1 }) }, '{"a":1}', 200, { a: 1 }],
  ['+ a binary body arrives intact', give('[Buffer.isBuffer(ctx.body_raw), ctx.body_raw.toString("hex"), ctx.body === undefined]'), { method: 'POST', headers: [['content-type', 'image/png']] }, binary, 200, [true, binary.toString('hex'), true]],
  ['+ without a type as well', give('ctx.body_raw.toString("hex")'), { method: 'POST' }, binary, 200, binary.toString('hex')],

  ['cb(null, v) is 200 with JSON', give('{ a: [1, null, "x"] }'), {}, '', 200, { a: [1, null, 'x'] }],
  ...['undefined', 'null', '0', 'false', '""', 'NaN'].map((v) => [`a falsy value gives {}: ${v}`, give(v), {}, '', 200, {}]),
  ['what JSON does not know gives {}', give('() => 1'), {}, '', 200, {}],
  ['cb(err) is 400', fail('new RangeError("no")'), {}, '', 400, { code: 400, error: RETURNED, details: 'RangeError: no', name: 'RangeError', message: 'no' }],
  ['cb of a text is 400', fail('"no"'), {}, '', 400, { code: 400, error: RETURNED, details: 'no' }],
  ['a synchronous throw is 500', 'module.exports = (ctx, cb) => { throw new TypeError("t"); }', {}, '', 500, { code: 500, error: THREW, name: 'TypeError', message: 't' }],
  ['of (ctx, req, res), too', 'module.exports = (ctx, req, res) => { throw new TypeError("t"); }', {}, '', 500, { code: 500, error: THREW, message: 't' }],
  ['a circular result is 400', 'module.exports = (cb) => { const a = {}; a.a = a; cb(null, a); }', {}, '', 400, { code: 400, name: 'TypeError' }],
  ['so is one whose toJSON throws', give('{ toJSON() { throw new Error("j"); } }'), {}, '', 400, { code: 400, message: 'j' }],
  ...[400, 404, 418, 503, 599].map((n) => [`+ err.statusCode is honoured: ${n}`, fail(`Object.assign(new Error("e"), { statusCode: ${n} })`), {}, '', n, { code: n, error: RETURNED, message: 'e' }]),
  ...['200', '399', '600', '404.5', '"404"', '-1'].map((n) => [`an odd one is not: ${n}`, fail(`Object.assign(new Error("e"), { statusCode: ${n} })`), {}, '', 400, { code: 400 }]),
  ['+ of a throw and of a rejection as well', 'module.exports = async () => { throw Object.assign(new Error("e"), { statusCode: 422 }); }', {}, '', 422, { code: 422 }],
  ['+ an uncaught exception is its invocation\'s', 'module.exports = (ctx, cb) => { setImmediate(() => { throw new Error("u"); }); }', {}, '', 500, { code: 500, message: 'u' }],
  ['+ an unhandled rejection, too', 'module.exports = (ctx, cb) => { (async () => { throw new Error("u"); })(); }', {}, '', 500, { code: 500, message: 'u' }],
];

for (const [rule, code, head, body, status, want] of rules) {
  test(`webtask: ${rule}`, async () => {
    const r = await invoke({ secrets: { s: 'secret' }, meta: { m: 'meta' }, ...(typeof code === 'string' ? { code } : code) }, head, body);
    assert.equal(r.status, status, r.text);
    if (status === 200) assert.deepEqual(r.json, want);
    else assert.partialDeepStrictEqual(r.json, want);
  });
}

for (const [rule, record, code] of [
  ['arity 0', 'module.exports = () => {}', 'bad_arity'],
  ['arity 4', 'module.exports = (a, b, c, d) => {}', 'bad_arity'],
  ['a syntax error', 'module.exports = (', 'syntax_error'],
  ['types that cannot be stripped', { file: 'f.ts', code: 'enum A { x }\nmodule.exports = (cb: any) => cb(null, A.x)' }, 'syntax_error'],
  ['no function', 'module.exports = "text"', 'not_a_function'],
  ['nothing at all', '', 'not_a_function'],
]) {
  test(`webtask: 400 for ${rule}`, async () => {
    await assert.rejects(serve(record), (e) => {
      assert.deepEqual([e.failed?.status, e.failed?.code], [400, code], e.stack);
      return true;
    });
  });
}
