'use strict';
// Bodies as ReadableStream, both ways, no faster than the other side reads.

const P = require('./primordials.js');
const { CODE } = require('./codec.js');

/** The request's body as a stream of bytes. */
function requestStream(inv) {
  let controller, held = 0;
  const stream = new ReadableStream({
    start(c) { controller = c; },
    pull() { const n = held; held = 0; if (n !== 0) inv.grant(n); },
    cancel() { inv.request = { arrived: (chunk) => inv.grant(chunk.length), gone() {} }; inv.grant(held); },
  }, new ByteLengthQueuingStrategy({ highWaterMark: 65536 }));
  const take = (chunk) => {
    controller.enqueue(new P.Uint8Array(chunk));
    if (controller.desiredSize > 0) inv.grant(chunk.length); else held += chunk.length;
  };
  if (inv.first !== null) take(inv.first);
  for (let i = 0; inv.early !== null && i < inv.early.length; i++) take(inv.early[i]);
  if (inv.inEnded) { controller.close(); return stream; }
  inv.request = {
    arrived(chunk, ended) {
      if (chunk.length !== 0) take(chunk);
      if (ended) { inv.request = null; controller.close(); }
    },
    gone(code, reason) {
      inv.request = null;
      const e = new P.TypeError(reason === '' ? 'the request was broken off' : reason);
      controller.error(e);
    },
  };
  return stream;
}

/** Sends a stream as the response's body. */
async function pump(inv, body) {
  const reader = body.getReader();
  inv.response = {
    sent() {}, replaced() {},
    gone() { reader.cancel('the client has gone').catch(() => {}); },
  };
  try {
    while (!inv.over) {
      const { done, value } = await reader.read();
      if (done) { inv.send(P.alloc(0), true, null); return; }
      const chunk = typeof value === 'string' ? P.from(value) : value;
      if (!P.isView(chunk)) throw new P.TypeError('a response body must be a stream of bytes');
      if (chunk.byteLength !== 0) await new P.Promise((go) => { inv.send(P.from(chunk.buffer, chunk.byteOffset, chunk.byteLength), false, go); });
    }
  } catch (e) {
    if (inv.over) return; // whoever asked has gone, and the body with them
    inv.abort(CODE.internal, 'the response\'s body failed');
    throw e;
  }
}

module.exports = { requestStream, pump };
