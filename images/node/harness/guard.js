'use strict';
// Errors without a catcher and processes that want to leave: they are laid to
// the invocation that caused them; the others go on.

const P = require('./primordials.js');
const { EventEmitter } = require('node:events');
const { current, userFrames } = require('./invocation.js');

const emit = P.uncurry(EventEmitter.prototype.emit), listenerCount = P.uncurry(EventEmitter.prototype.listenerCount);
const EXITED = Symbol('exit');

/** leave(code, reason) lets what is in flight finish and ends the process. */
function install({ leave, log }) {
  process.setUncaughtExceptionCaptureCallback((err) => {
    blame(err, 'Script generated an unhandled asynchronous exception.', 'uncaught_exception', log);
    // The code's own handlers hear of it, but decide nothing.
    if (listenerCount(process, 'uncaughtException') !== 0) emit(process, 'uncaughtException', err, 'uncaughtException');
  });
  process.on('unhandledRejection', (err) => blame(err, 'Script generated an unhandled promise rejection.', 'unhandled_rejection', log));
  const exit = (code) => {
    const inv = current(), status = code ?? process.exitCode ?? 0;
    const e = new P.Error(`process.exit(${status}) was called`);
    e[EXITED] = true;
    if (inv !== undefined) inv.fail(e, 500, 'Script called process.exit().', 'process_exit');
    leave(typeof status === 'number' ? status : 1, e.message);
    throw e; // exit() never returns to its caller
  };
  process.exit = exit;
  process.reallyExit = exit;
}

function blame(err, title, cause, log) {
  if (err !== null && typeof err === 'object' && err[EXITED]) return;
  const inv = current();
  log('error', `${title} ${shown(err)}`);
  if (inv !== undefined) inv.fail(err, 500, title, cause);
}

function shown(err) {
  try {
    return err !== null && typeof err === 'object' && err.stack ? userFrames(P.String(err.stack)) : P.String(err);
  } catch {
    return 'the error cannot be shown: looking at it throws';
  }
}

module.exports = { install };
