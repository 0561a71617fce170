'use strict';
// A function process, from spare to grave. The cell starts it with a channel
// (NODE_CHANNEL_FD); it boots, serves a few requests to itself so that the
// first real one finds warm code, and says {"t":"spare"}. Then the cell hands
// it a listening socket with a function's record; it says {"t":"serving"} or
// {"t":"failed"}, and serves that one function until it is told to stop.

const net = require('node:net');
const inspector = require('node:inspector');
const { EventEmitter } = require('node:events');
const P = require('./primordials.js');
const C = require('./codec.js');
const { Connection } = require('./frames.js');
const { activity } = require('./exchange.js');
const { Invocation, served } = require('./invocation.js');
const { show, outside, cutShort } = require('./turn.js');
const { Wall } = require('./wall.js');
const background = require('./background.js');
const { model } = require('./models.js');
const { load, loadError } = require('./load.js');
const modules = require('./modules.js');
const { log } = require('./console.js');
const { Channel } = require('./channel.js');
const descriptors = require('./descriptors.js');

const emit = P.uncurry(EventEmitter.prototype.emit);
const reallyExit = process.reallyExit.bind(process);
const SWEEP = 1000, PARTING = 1000, STRANDED = 3000; // milliseconds
const connections = new P.Set();
let server = null, leaving = false, going = false, ending = false, exitCode = 0;

function accept(socket) {
  const conn = new Connection(socket, 'function', { open, closed, drained: goWhenIdle, pending });
  P.setAdd(connections, conn);
  if (leaving) conn.goaway('this process is going');
}

function open(conn, id) { return new Invocation(conn, id); }

const wall = new Wall((visit) => P.setForEach(connections, (conn) => conn.each(visit)));

function pending(inv) {
  wall.watch(inv);
  descriptors.look(activity.last);
}

function closed(conn) {
  P.setDelete(connections, conn);
  if (leaving) goWhenIdle();
}

function backgroundDone() { if (leaving) goWhenIdle(); }

/** Takes no new requests; goes once those in flight are answered. */
function leave(code, reason) {
  if (leaving) return;
  leaving = true;
  exitCode = code;
  reason = P.slice(reason, 0, 1000); // the code's own words may be in it
  channel.send({ t: 'leaving', code, reason });
  if (server !== null) server.close();
  P.setForEach(connections, (conn) => conn.goaway(reason));
  goWhenIdle();
  P.setTimeout(sweep, SWEEP);
}

/** Gives up what is past its deadline: whoever asked has given it up, too, or
 * was made to believe that it had ended. */
function sweep() {
  const now = P.now();
  P.setForEach(connections, (conn) => conn.giveUp(now));
  P.setTimeout(sweep, SWEEP);
}

/** Ends the process after the turn in which the last stream has ended, when
 * whoever asked has seen that it goes, and closed. */
function goWhenIdle() {
  if (going || busy()) return;
  going = true;
  outside(P.setImmediate, () => {
    going = false;
    if (busy()) return;
    let open = 0;
    P.setForEach(connections, () => { open++; });
    if (open === 0) exit();
    else if (!ending) { ending = true; outside(P.setTimeout, end, PARTING); }
  });
}

/** Ends the process although somebody holds on to it, when its last bytes are
 * with the kernel. */
function end() {
  ending = false;
  if (busy()) return; // it goes when that is done
  let open = 1;
  const one = () => { if (--open === 0) exit(); };
  P.setForEach(connections, (conn) => { open++; P.socketEnd(conn.socket, one); });
  one();
}

/** The end, after the code's own 'exit' handlers. */
function exit() {
  try { emit(process, 'exit', exitCode); } catch (e) { log('error', P.String(e)); }
  reallyExit(exitCode);
}

function busy() { return inFlight() !== 0; }

function inFlight() {
  let n = background.count();
  const now = P.now();
  P.setForEach(connections, (conn) => { n += conn.inTime(now); });
  return n;
}

/** How many of those in flight are raw bytes since a 101, and for how long
 * nothing has moved in any of them. */
function upgraded() {
  let n = 0, last = 0;
  P.setForEach(connections, (conn) => conn.each((x) => { if (x.upgraded) { n++; last = P.max(last, x.moved); } }));
  return n === 0 ? undefined : { upgraded: n, still: P.now() - last };
}

async function serve(message, handle) {
  served.file = message.file;
  served.meta = P.freeze(message.meta ?? {});
  served.secrets = P.freeze(message.secrets ?? {});
  background.configure(message.limits?.background, backgroundDone);
  try {
    modules.use(message.modules);
    const webtask = { meta: { ...served.meta }, secrets: { ...served.secrets }, params: {} };
    const exported = await load({ file: message.file, code: message.code, webtask });
    P.assign(served, model(exported));
  } catch (e) {
    channel.send({ t: 'failed', error: loadError(e) });
    return;
  }
  server = net.createServer({ allowHalfOpen: false, noDelay: false }, accept);
  server.on('error', () => {}); // of accept(): descriptors.js
  server.listen(handle, () => channel.send({ t: 'serving' }));
}

/** The code was told to go because its room is needed: what would stay open
 * for days is closed, after a moment for a last word. */
function hangUp() {
  P.setForEach(connections, (conn) => conn.each((x) => { if (x.upgraded) x.hangUp(); }));
}

/** Whoever was cut off by the debugger is answered, if the runner has neither
 * done so nor asked another process by then. */
function mend() {
  cutShort((inv) => outside(P.setTimeout, () => inv.cutShort(), STRANDED));
}

/** The debugger has gone; what it cut off goes on. */
function blind() {
  inspector.close(); // first: there may be another loop in what was cut off
  mend();
  P.setForEach(connections, (conn) => conn.resume());
}

const channel = new Channel({
  ping(m) {
    mend();
    channel.send({ t: 'pong', n: m.n, inflight: inFlight(), done: activity.done, idle: P.now() - activity.last, ...upgraded() });
  },
  load: serve,
  stop(m) {
    leave(0, 'stopped');
    if (m.hangup) outside(P.setTimeout, hangUp, PARTING);
  },
  blind,
  closed: () => reallyExit(0),
});

/** Leaves nothing of the harness within reach of the code. */
function hide() {
  const cache = require.cache;
  for (const name of Object.keys(cache)) delete cache[name];
  module.children = [];
  process.mainModule = undefined;
  process.argv = [process.argv[0], '/function/function.js'];
  process.execArgv = [];
  for (const name of Object.keys(process.env)) if (name.startsWith('NODE_') || name.startsWith('BULKHEAD_')) delete process.env[name];
}

async function boot() {
  require('./console.js').install();
  require('./fetch.js').install();
  await require('./warm.js').warm(accept, served);
  require('./guard.js').install({ served, leave: (code, reason) => outside(leave, code, reason) });
  require('./waits.js').install();
  background.install();
  activity.done = 0;
  hide();
  channel.send({ t: 'spare', ...show() });
}

boot();
