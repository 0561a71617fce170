'use strict';
// The line to the cell: Node's IPC channel, one JSON message a line. Code finds
// no process.send, so a package that asks for it does not think it was forked.

const P = require('./primordials.js');

class Channel {
  /** on: a function for each op, and closed() for when the cell has gone. */
  constructor(on) {
    const send = process.send.bind(process), ops = P.assign(P.create(null), on);
    // Without a prototype, the code's Object.prototype.toJSON has no say.
    this.send = (message) => { send(P.assign(P.create(null), message), undefined, undefined, () => {}); };
    process.on('message', (message, handle) => {
      if (message !== null && typeof message === 'object') ops[message.op]?.(message, handle);
    });
    process.on('disconnect', on.closed);
    // Node's own code goes on using the others.
    hide('send');
  }
}

function hide(name) {
  P.defineProperty(process, name, { __proto__: null, value: undefined, configurable: true, writable: true });
}

module.exports = { Channel };
