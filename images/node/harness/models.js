'use strict';
// The programming models: what a module exports decides how it is invoked.

const P = require('./primordials.js');
const { Context } = require('./context.js');
const http = require('./http.js');
const web = require('./fetch.js');

const AsyncProto = P.getPrototypeOf(async () => {});
const RETURNED = 'Script returned an error.';

/** Returns { invoke(inv), parses } for what the code exported; throws an Error
 * with a code when it can't be invoked. */
function model(exported) {
  let fn = exported;
  if (isObject(fn) && fn.default !== undefined) fn = fn.default;
  if (isObject(fn) && typeof fn.fetch === 'function') return web.model(fn);
  if (typeof fn !== 'function') throw wrong('not_a_function', `The code must export or return a function; it gave ${kind(fn)}.`);
  const arity = fn.length, isAsync = P.getPrototypeOf(fn) === AsyncProto;
  if (arity === 3) return { invoke: http.invoker(fn), parses: false };
  if (isAsync && arity <= 2) return { invoke: arity === 2 ? withCallback(fn) : (inv) => settle(inv, fn(new Context(inv)), true), parses: true };
  if (arity === 2) return { invoke: withCallback(fn), parses: true };
  if (arity === 1) return { invoke: (inv) => settle(inv, fn(callback(inv)), true), parses: true };
  throw wrong('bad_arity', `The function takes ${arity} arguments; it must be (cb), (ctx, cb) or (ctx, req, res).`);
}

function withCallback(fn) {
  return (inv) => settle(inv, fn(new Context(inv), callback(inv)), false);
}

function callback(inv) {
  return (err, value) => {
    if (err) inv.fail(err, 400, RETURNED, '');
    else inv.succeed(value);
  };
}

/** A promise that the function returned is its result. One that took a
 * callback and resolves with nothing means to call it. */
function settle(inv, result, nothingCounts) {
  if (!isObject(result) || typeof result.then !== 'function') return;
  result.then(
    (value) => { if (nothingCounts || value !== undefined) inv.succeed(value); },
    (err) => inv.fail(err, 400, RETURNED, ''),
  );
}

function isObject(v) { return v !== null && typeof v === 'object'; }

function kind(v) {
  if (v === null) return 'null';
  return isObject(v) ? 'an object without fetch()' : typeof v;
}

function wrong(code, message) {
  const e = new P.Error(message);
  e.code = code;
  return e;
}

module.exports = { model };
