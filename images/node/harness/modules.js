'use strict';
// The npm packages that a function may require: those of its set, a directory that
// the cell names (docs/cell.md). What the function's own code requires or imports
// is resolved as from there; packages find theirs as Node always does.

const path = require('node:path');
const { createRequire, isBuiltin, registerHooks } = require('node:module');
const { pathToFileURL } = require('node:url');
const P = require('./primordials.js');

const OWN = 'file:///function/';
const VERSIONED = /^((?:@[^/@]+\/)?[^/@]+)@([^/]+)([^]*)$/;
const NAME = /^(?:@[^/]+\/)?[^/]+/;
const NOT_FOUND = /^Cannot find (?:module|package) '([^']+)'/;
const set = { dir: '', has: [] };

/** Has a function find the packages of its set: dir, and the names that it may be
 * asked for by. */
function use(modules) {
  if (typeof modules?.dir !== 'string') return;
  set.dir = modules.dir;
  set.has = modules.has ?? [];
  const file = path.join(set.dir, 'function.js'), from = createRequire(file), parentURL = pathToFileURL(file).href;
  registerHooks({
    resolve(specifier, context, next) {
      if (context.parentURL === undefined || !P.startsWith(context.parentURL, OWN) || !bare(specifier)) return next(specifier, context);
      const name = alias(specifier);
      try {
        // Where CommonJS requires, no other parent would be listened to.
        if (required(context.conditions)) return { url: pathToFileURL(from.resolve(name)).href, shortCircuit: true };
        return next(name, { ...context, parentURL });
      } catch (e) {
        throw explain(e, specifier);
      }
    },
  });
}

/** Whether it is packages that a specifier speaks of. */
function bare(s) {
  return !P.startsWith(s, '.') && !P.startsWith(s, '/') && !P.startsWith(s, '#') && !P.includes(s, ':') && !isBuiltin(s);
}

function required(conditions) {
  for (const c of conditions) if (c === 'require') return true;
  return false;
}

/** Where in node_modules a specifier's package is, and what of it is meant:
 * 'lodash@4.17.21/fp' is in lodash--4.17.21/fp. The rule is cluster.ModuleAlias. */
function alias(specifier) {
  const m = P.exec(VERSIONED, specifier);
  return m === null ? specifier : `${m[1]}--${P.replace(m[2], /\+/g, '_')}${m[3]}`;
}

/** The error of a package that is not there, in words that help; any other as it
 * is. */
function explain(e, specifier) {
  try {
    if (e.code !== 'MODULE_NOT_FOUND' && e.code !== 'ERR_MODULE_NOT_FOUND') return e;
    const found = P.exec(NOT_FOUND, e.message);
    const asked = specifier ?? (found === null ? '.' : found[1]);
    if (!bare(asked) || has(asked)) return e;
    const err = new P.Error(`Cannot find package '${asked}': this function has ${listed()}. Want it in the dependencies of the package.json beside the file, and deploy again`);
    err.code = e.code;
    return err;
  } catch { return e; }
}

/** Whether the function may ask for a package, so that what lacks is a part of it. */
function has(specifier) {
  const name = P.exec(NAME, specifier)[0];
  for (let i = 0; i < set.has.length; i++) if (set.has[i] === name) return true;
  return false;
}

function listed() {
  if (set.has.length === 0) return 'no npm packages';
  let out = set.has[0];
  for (let i = 1; i < set.has.length; i++) out += `, ${set.has[i]}`;
  return out;
}

/** A stack whose frames in packages begin with node_modules. */
function short(stack) {
  if (set.dir === '' || !P.includes(stack, set.dir)) return stack;
  const parts = P.split(stack, `${set.dir}/`);
  let out = parts[0];
  for (let i = 1; i < parts.length; i++) {
    const url = 'file://'; // of frames in ES modules
    out = (P.slice(out, -url.length) === url ? P.slice(out, 0, -url.length) : out) + parts[i];
  }
  return out;
}

module.exports = { use, alias, explain, short };
