'use strict';
// The examples of docs/functions.md are code that runs.

const test = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { packages } = require('./packages.js');
const { invoke } = require('./process.js');

const page = fs.readFileSync(path.join(__dirname, '../../../docs/functions.md'), 'utf8'), dir = packages();
const examples = [...page.matchAll(/^```(js|mjs|ts)\n([^]*?)^```$/gm)];

test('there are examples', () => assert.ok(examples.length > 8));

for (const [, ending, code] of examples) {
  const needs = /require\('(express|ws)'\)/.test(code);
  test(`an example runs: ${code.split('\n').find((l) => l.includes('export')) ?? code}`, { skip: needs && dir === undefined && 'npm cannot install packages here' }, async () => {
    const found = code.replace(/require\('(express|ws)'\)/, `require('${dir}/node_modules/$1')`);
    const r = await invoke({ file: `example.${ending}`, code: found, read: needs ? dir : undefined }, { target: '/?name=you&id=7', fields: [[1, 'r'], [4, '192.0.2.1:5123']] });
    assert.equal(r.status, 200, r.text);
  });
}
