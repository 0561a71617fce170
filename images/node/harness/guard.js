'use strict';
// Errors without a catcher and code that wants to end the process: they are
// laid to the invocation that caused them; the others go on.

const os = require('node:os');
const { EventEmitter } = require('node:events');
const P = require('./primordials.js');
const { current } = require('./turn.js');
const { shown } = require('./errors.js');
const { log } = require('./console.js');

const emit = P.uncurry(EventEmitter.prototype.emit), listenerCount = P.uncurry(EventEmitter.prototype.listenerCount);
const EXITED = Symbol('exit');
const SIGNALS = P.assign(P.create(null), os.constants.signals);
const HARMLESS = new P.Set(['SIGCHLD', 'SIGCONT', 'SIGURG', 'SIGWINCH']); // ignored unless somebody listens
const { pid } = process;
const rawKill = process._kill;

/** served.caught is set; leave(code, reason) lets what is in flight finish and
 * ends the process. */
function install({ served, leave }) {
  served.caught = uncaught;
  keepDebugger();
  process.setUncaughtExceptionCaptureCallback(uncaught);
  process.on('unhandledRejection', (err) => blame(err, 'Script generated an unhandled promise rejection.', 'unhandled_rejection'));

  /** Ends the process in the name of who asked; never returns to its caller. */
  const end = (code, what, cause) => {
    const inv = current(), e = new P.Error(`${what} was called`);
    e[EXITED] = true;
    if (inv !== undefined) inv.fail(e, 500, `Script called ${P.slice(what, 0, P.indexOf(what, '(') + 1)}).`, cause);
    leave(code, e.message);
    throw e;
  };
  const exit = (code) => {
    const status = code ?? process.exitCode ?? 0;
    end(typeof status === 'number' ? status : 1, `process.exit(${status})`, 'process_exit');
  };
  const kill = (target, signal) => {
    if (target !== pid && target !== 0 || signal === SIGNALS.SIGUSR1) return false; // the debugger is the cell's
    if (signal === 0) return true;
    const name = nameOf(signal);
    if (P.setHas(HARMLESS, name) || listenerCount(process, name) !== 0) return rawKill(pid, signal) === 0;
    return end(128 + signal, `process.kill(${name})`, 'process_kill');
  };
  replace({
    exit,
    reallyExit: exit,
    abort: () => end(134, 'process.abort()', 'process_abort'),
    kill: (target, signal = 'SIGTERM') => kill(target | 0, numberOf(signal)) || fail('kill'),
    _kill: (target, signal) => (kill(target, signal) ? 0 : -os.constants.errno.EPERM),
    execve: () => fail('execve'),
    _debugProcess: () => fail('kill'),
    disconnect: leftToNode(process.disconnect),
  });
}

/** Node's inspector listens for SIGUSR1 until somebody else does. Code may, and
 * will hear nothing: the debugger is the cell's. */
function keepDebugger() {
  const start = process.listeners('newListener').find((f) => f.name === 'startListeningIfSignal');
  if (start === undefined) throw new P.Error('process has no startListeningIfSignal');
  process.off('newListener', start);
  process.on('newListener', (type) => { if (type !== 'SIGUSR1') start(type); });
}

function uncaught(err) {
  blame(err, 'Script generated an unhandled asynchronous exception.', 'uncaught_exception');
  // The code's own handlers hear of it, but decide nothing.
  if (listenerCount(process, 'uncaughtException') !== 0) emit(process, 'uncaughtException', err, 'uncaughtException');
}

function blame(err, title, cause) {
  if (err !== null && typeof err === 'object' && err[EXITED]) return;
  const inv = current();
  log('error', `${title} ${shown(err)}`);
  if (inv !== undefined) inv.fail(err, 500, title, cause);
}

function replace(methods) {
  for (const name of P.keys(methods)) {
    P.defineProperty(process, name, { __proto__: null, value: methods[name], configurable: true, enumerable: true, writable: true });
  }
}

/** Node calls process.disconnect() when the channel closes; code does not. */
function leftToNode(disconnect) {
  return () => { if (current() === undefined) disconnect(); };
}

function numberOf(signal) {
  const n = typeof signal === 'number' ? signal : SIGNALS[signal];
  if (n !== undefined) return n;
  const e = new P.TypeError(`Unknown signal: ${signal}`);
  e.code = 'ERR_UNKNOWN_SIGNAL';
  throw e;
}

function nameOf(number) {
  for (const name of P.keys(SIGNALS)) if (SIGNALS[name] === number) return name;
  return `${number}`;
}

function fail(syscall) {
  const e = new P.Error(`${syscall} EPERM`);
  e.code = 'EPERM';
  e.errno = -os.constants.errno.EPERM;
  e.syscall = syscall;
  throw e;
}

module.exports = { install };
