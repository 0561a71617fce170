'use strict';
// What the harness goes on using after a tenant's code has run, captured
// before it: code that patches JSON.stringify or Map.prototype.get changes
// its own world, not the way its answers travel.

const net = require('node:net');
const fs = require('node:fs');
const { AsyncLocalStorage } = require('node:async_hooks');

const uncurry = Function.prototype.bind.bind(Function.prototype.call);
const BufferProto = Buffer.prototype;
const SocketProto = net.Socket.prototype;

module.exports = {
  uncurry,
  parse: JSON.parse,
  stringify: JSON.stringify,
  String,
  Error,
  TypeError,
  RangeError,
  captureStackTrace: Error.captureStackTrace,
  Promise,
  isArray: Array.isArray,
  tail: uncurry(Array.prototype.slice),
  min: Math.min,
  max: Math.max,
  round: Math.round,
  now: Date.now,
  keys: Object.keys,
  create: Object.create,
  assign: Object.assign,
  freeze: Object.freeze,
  getPrototypeOf: Object.getPrototypeOf,
  defineProperty: Object.defineProperty,
  hasOwn: Object.hasOwn,
  then: uncurry(Promise.prototype.then),
  call: uncurry(Function.prototype.call),
  toLowerCase: uncurry(String.prototype.toLowerCase),
  indexOf: uncurry(String.prototype.indexOf),
  includes: uncurry(String.prototype.includes),
  startsWith: uncurry(String.prototype.startsWith),
  slice: uncurry(String.prototype.slice),
  split: uncurry(String.prototype.split),
  trim: uncurry(String.prototype.trim),
  replace: uncurry(String.prototype.replace),
  test: uncurry(RegExp.prototype.test),
  exec: uncurry(RegExp.prototype.exec),

  byteLength: Buffer.byteLength,
  alloc: Buffer.allocUnsafeSlow,
  from: Buffer.from,
  concat: Buffer.concat,
  isView: ArrayBuffer.isView,
  Uint8Array,
  subarray: uncurry(BufferProto.subarray),
  fill: uncurry(Uint8Array.prototype.set), // fill(target, source, at)
  latin1Slice: uncurry(BufferProto.latin1Slice),
  utf8Slice: uncurry(BufferProto.utf8Slice),
  latin1Write: uncurry(BufferProto.latin1Write),
  utf8Write: uncurry(BufferProto.utf8Write),

  Map,
  mapGet: uncurry(Map.prototype.get),
  mapSet: uncurry(Map.prototype.set),
  mapDelete: uncurry(Map.prototype.delete),
  mapForEach: uncurry(Map.prototype.forEach),
  mapSize: uncurry(Object.getOwnPropertyDescriptor(Map.prototype, 'size').get),
  Set,
  setAdd: uncurry(Set.prototype.add),
  setSize: uncurry(Object.getOwnPropertyDescriptor(Set.prototype, 'size').get),
  setHas: uncurry(Set.prototype.has),
  setDelete: uncurry(Set.prototype.delete),
  setForEach: uncurry(Set.prototype.forEach),

  nextTick: process.nextTick.bind(process),
  setImmediate,
  setTimeout,
  clearTimeout,
  clearImmediate,
  unref: uncurry(Object.getPrototypeOf(setTimeout(() => {}, 0)).unref),
  writeSync: fs.writeSync,

  socketWrite: uncurry(SocketProto.write),
  socketCork: uncurry(SocketProto.cork),
  socketUncork: uncurry(SocketProto.uncork),
  socketEnd: uncurry(SocketProto.end),
  socketDestroy: uncurry(SocketProto.destroy),
  socketPending: uncurry(findGetter(SocketProto, 'writableLength')),

  AsyncLocalStorage,
  alsRun: uncurry(AsyncLocalStorage.prototype.run),
  alsGet: uncurry(AsyncLocalStorage.prototype.getStore),
};

function findGetter(proto, name) {
  for (let p = proto; p !== null; p = Object.getPrototypeOf(p)) {
    const d = Object.getOwnPropertyDescriptor(p, name);
    if (d !== undefined) return d.get;
  }
  throw new Error(`cannot find the getter ${name}`);
}
