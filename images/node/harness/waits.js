'use strict';
// What an invocation waits for: the last timers, outgoing requests and
// connections that it has started, for the answer to one that ran out of time.

const diagnostics = require('node:diagnostics_channel');
const { OutgoingMessage } = require('node:http');
const P = require('./primordials.js');
const { current } = require('./turn.js');
const { ownPlace } = require('./errors.js');

const KEPT = 8; // of an invocation
const getHeader = P.uncurry(OutgoingMessage.prototype.getHeader);

// A stack costs a microsecond or two: at most so many are taken in a while.
const STACKS = 100, WHILE = 100; // milliseconds
let left = STACKS, since = 0;

/** Where we are, to be put in words later (here(skip) leaves out skip and what
 * it called); null when too many have asked. */
function here(skip) {
  const now = P.now();
  if (now - since >= WHILE) { since = now; left = STACKS; }
  if (left === 0) return null;
  left--;
  const place = {};
  P.captureStackTrace(place, skip);
  return place;
}

/** Keeps that inv has started thing; kind is one of those below. */
function note(inv, kind, thing, place) {
  const list = inv.waits ??= [];
  list[inv.waited++ % KEPT] = { kind, thing, place };
}

// direct: one that no code of the tenant is seen to start belongs to another.
const timer = {
  direct: true,
  pending: (t) => !t._destroyed,
  name: (t) => `a timer of ${t._idleTimeout}ms`,
};

const request = {
  direct: false,
  pending: (r) => !r.destroyed && r.res?.complete !== true,
  name: (r) => `an outgoing request to ${withPort(`${getHeader(r, 'host') ?? r.host}`, r.protocol)}`,
};

const fetched = {
  direct: false,
  pending: (r) => !r.completed && !r.aborted,
  name: (r) => { const u = new URL(r.origin); return `an outgoing request to ${withPort(u.host, u.protocol)}`; },
};

const connection = {
  direct: true,
  // An agent's sockets belong to its requests, and stay open after them.
  pending: (s) => !s.destroyed && !s._httpMessage && s.listenerCount('agentRemove') === 0,
  name: (s) => `a connection to ${s.remoteAddress === undefined ? s._host ?? 'a socket' : `${s.remoteAddress}:${s.remotePort}`}`,
};

function withPort(host, protocol) {
  return P.test(/:\d+$/, host) ? host : `${host}:${protocol === 'https:' ? 443 : 80}`;
}

/** What inv has started last of what has not ended, in words, and where in the
 * tenant's code that was; '' where that is not known. */
function waitingFor(inv) {
  const list = inv.waits, out = { what: '', where: '' };
  for (let i = inv.waited - 1; list !== null && i >= 0 && i >= inv.waited - KEPT; i--) {
    const { kind, thing, place } = list[i % KEPT];
    try { // the code may have done anything to them
      if (!kind.pending(thing)) continue;
      const where = place === null ? '' : ownPlace(place.stack);
      if (kind.direct && place !== null && where === '') continue;
      out.what = kind.name(thing);
      out.where = where;
    } catch { continue; }
    break;
  }
  return out;
}

/** A timer was set; skip as in here(). */
function timerSet(t, skip) {
  const inv = current();
  if (inv !== undefined && !inv.over) note(inv, timer, t, here(skip));
}

/** fetch() is called; its request begins in a later turn. */
function fetchCalled(skip) {
  const inv = current();
  if (inv !== undefined && !inv.over) inv.fetchPlace = here(skip);
}

function subscribe(channel, start) {
  const listener = (message) => {
    const inv = current();
    if (inv !== undefined && !inv.over) start(inv, message, listener);
  };
  diagnostics.subscribe(channel, listener);
}

function install() {
  subscribe('http.client.request.created', (inv, m, self) => note(inv, request, m.request, here(self)));
  subscribe('undici:request:create', (inv, m, self) => note(inv, fetched, m.request, inv.fetchPlace ?? here(self)));
  subscribe('net.client.socket', (inv, m, self) => note(inv, connection, m.socket, here(self)));
}

module.exports = { waitingFor, timerSet, fetchCalled, install };
