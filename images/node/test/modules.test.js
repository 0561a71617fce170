'use strict';
// Functions require the packages of their set: real ones, in every way in which
// code can ask for them.

const test = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { alias } = require('../harness/modules.js');
const { packages } = require('./packages.js');
const { invoke, serve, withJSON } = require('./process.js');

const dir = packages('modules');
const options = dir === undefined ? { skip: 'npm cannot install the packages of images/node/test/modules here' } : {};
const modules = { dir, has: ['@node-rs/crc32', '@sindresorhus/is', 'express', 'lodash', 'lodash@4.17.20', 'nanoid'] };

const ways = [
  ['require', 'test.js', 'module.exports = async () => require("lodash").VERSION', '4.17.21'],
  ['a file of a package', 'test.js', 'module.exports = async () => require("lodash/fp").add(1)(2)', 3],
  ['a version beside another', 'test.js', 'module.exports = async () => [require("lodash@4.17.20").VERSION, require("lodash").VERSION, require("lodash@4.17.20/fp").add(1)(2)]', ['4.17.20', '4.17.21', 3]],
  ['require.resolve', 'test.js', `module.exports = async () => require.resolve('lodash@4.17.20')`, `${dir}/node_modules/lodash--4.17.20/lodash.js`],
  ['module.require', 'test.js', 'module.exports = async () => module.require("lodash").VERSION', '4.17.21'],
  ['dynamic import from CommonJS', 'test.js', 'module.exports = async () => [(await import("lodash@4.17.20")).default.VERSION, (await import("nanoid")).nanoid().length]', ['4.17.20', 21]],
  ['require of ES modules', 'test.cjs', 'module.exports = async () => require("nanoid").nanoid().length', 21],
  ['a scope', 'test.js', 'module.exports = async () => require("@sindresorhus/is").default("x")', 'string'],
  ['native code', 'test.js', 'module.exports = async () => require("@node-rs/crc32").crc32("hello")', 907060870],
  ['import', 'test.mjs', 'import lodash from "lodash"; import old from "lodash@4.17.20"; import is from "@sindresorhus/is"; import { nanoid } from "nanoid"; export default async () => [lodash.VERSION, old.VERSION, is(1), nanoid().length]', ['4.17.21', '4.17.20', 'number', 21]],
  ['import by syntax', 'test.js', 'import lodash from "lodash"; export default async () => lodash.VERSION', '4.17.21'],
  ['dynamic import in an ES module, later', 'test.mjs', 'export default async () => (await import("nanoid")).nanoid().length', 21],
  ['import.meta.resolve', 'test.mjs', 'export default async () => import.meta.resolve("lodash@4.17.20")', `file://${dir}/node_modules/lodash--4.17.20/lodash.js`],
  ['createRequire in an ES module', 'test.mjs', 'import { createRequire } from "node:module"; export default async () => createRequire(import.meta.url)("lodash@4.17.20").VERSION', '4.17.20'],
  ['TypeScript', 'test.ts', 'const lodash = require("lodash"); module.exports = async (): Promise<string> => lodash.VERSION', '4.17.21'],
  ['TypeScript of ES modules', 'test.ts', 'import { nanoid } from "nanoid"; const n: number = nanoid().length; export default async () => n', 21],
  ['what Node has itself', 'test.js', 'module.exports = async () => [typeof require("fs").readFile, typeof require("node:path").join, (await import("node:os")).EOL]', ['function', 'function', '\n']],
];

for (const [what, file, code, want] of ways) {
  test(`packages: ${what}`, options, async () => {
    const r = await invoke({ file, code, modules, read: dir });
    assert.deepEqual([r.status, r.json], [200, want], r.text);
  });
}

test('the same package by require and by import is one', options, async () => {
  const r = await invoke({ code: 'module.exports = async () => require("lodash") === (await import("lodash")).default', modules, read: dir });
  assert.equal(r.json, true);
});

test('express, with what it depends on, serves', options, async () => {
  const r = await invoke({ code: 'const a = require("express")(); a.get("/x/:id", (q, s) => s.json(q.params)); module.exports = (ctx, req, res) => a(req, res);', modules, read: dir }, { target: '/x/7' });
  assert.deepEqual([r.status, r.json], [200, { id: '7' }], r.text);
});

const lacking = [
  ['at the top', { code: 'require("left-pad"); module.exports = async () => 1', modules, read: dir }, /^Cannot find package 'left-pad': this function has @node-rs\/crc32, @sindresorhus\/is, express, lodash, lodash@4.17.20, nanoid\. Want it in .*package\.json.*deploy again$/],
  ['a version', { code: 'require("lodash@3.0.0"); module.exports = async () => 1', modules, read: dir }, /^Cannot find package 'lodash@3\.0\.0': this function has/],
  ['imported', { file: 'a.mjs', code: 'import "left-pad"; export default async () => 1', modules, read: dir }, /^Cannot find package 'left-pad': this function has/],
  ['in a function without any', { code: 'require("left-pad"); module.exports = async () => 1' }, /^Cannot find package 'left-pad': this function has no npm packages\. Want it/],
  ['imported in a function without any', { file: 'a.mjs', code: 'import "left-pad"; export default async () => 1' }, /^Cannot find package 'left-pad': this function has no npm packages/],
  ['a file of a package that is there', { code: 'require("lodash/nothing"); module.exports = async () => 1', modules, read: dir }, /^Cannot find module .*lodash\/nothing/],
  ['a file beside the function', { code: 'require("./other"); module.exports = async () => 1', modules, read: dir }, /^Cannot find module '.\/other'/],
];

for (const [what, record, message] of lacking) {
  test(`what is not there: ${what}`, options, async () => {
    await assert.rejects(serve(record), (e) => { assert.match(e.message, message); assert.equal(e.failed.status, 400); return true; });
  });
}

test('what is not there while it serves, code can catch', options, async () => {
  const r = await invoke({ code: 'module.exports = async () => { try { require("left-pad"); } catch (e) { return [e.code, e.stack.includes("/function/test.js:1:")]; } }', modules, read: dir });
  assert.deepEqual(r.json, ['MODULE_NOT_FOUND', true]);
});

test('stacks name files of packages from node_modules on', options, async () => {
  await using p = await serve({ code: 'module.exports = (ctx, cb) => { require("lodash").forEach([1], () => { throw new Error("here"); }); }', modules, read: dir });
  const r = withJSON(await p.client.request({}));
  assert.equal(r.status, 500, r.text);
  assert.match(r.json.stack, /\(node_modules\/lodash\/lodash\.js:\d+:\d+\)/);
  assert.ok(!r.json.stack.includes(dir), r.json.stack);
});

test('aliases are as Go says', () => {
  const table = JSON.parse(fs.readFileSync(path.join(__dirname, 'aliases.json'), 'utf8'));
  for (const [name, want] of Object.entries(table)) {
    assert.equal(alias(name), want);
    assert.equal(alias(`${name}/a/b@c.js`), `${want}/a/b@c.js`);
  }
});
