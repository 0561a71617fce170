'use strict';
// The bytes of docs/frames.md: what a frame's first 12 bytes may say, where
// the parts of a request's head lie, how heads are written. Nothing here
// keeps state or makes a string before somebody asks for it.

const P = require('./primordials.js');
const { latin1Slice, utf8Slice, latin1Write } = P;

const HELLO = 1, REQUEST = 2, RESPONSE = 3, DATA = 4, WINDOW = 5, RESET = 6, GOAWAY = 7, PING = 8, PONG = 9, TRAILERS = 10;
const END = 1;
const FRAME = 12; // bytes before the payload
const MAX_PAYLOAD = 131072, MAX_DATA = 65536, MAX_HEAD = 65536, INITIAL_WINDOW = 262144;
const ROLES = ['proxy', 'agent', 'runner', 'function'];

// Field ids, in a REQUEST and in a RESPONSE.
const FIELD = P.freeze({ id: 1, tenant: 2, function: 3, client: 4, scheme: 5, authority: 6, base: 7, deadline: 8, claims: 9, params: 10, wall: 11, secrets: 12 });
const CAUSE = 1;

const CODE = P.freeze({ none: 0, cancelled: 1, time: 2, large: 3, refused: 4, internal: 5, protocol: 6 });

function u16(b, p) { return b[p] | b[p + 1] << 8; }
function u32(b, p) { return (b[p] | b[p + 1] << 8 | b[p + 2] << 16 | b[p + 3] << 24) >>> 0; }
function putU16(b, p, v) { b[p] = v; b[p + 1] = v >>> 8; }
function putU32(b, p, v) { b[p] = v; b[p + 1] = v >>> 8; b[p + 2] = v >>> 16; b[p + 3] = v >>> 24; }

/** Writes a frame's 12 bytes at p and returns where its payload begins. */
function putFrame(b, p, length, type, flags, stream) {
  putU32(b, p, length);
  b[p + 4] = type; b[p + 5] = flags; b[p + 6] = 0; b[p + 7] = 0;
  putU32(b, p + 8, stream);
  return p + FRAME;
}

/** What is wrong with the frame whose 12 bytes lie at p; '' when nothing is. */
function frameError(b, p) {
  const length = u32(b, p), type = b[p + 4], flags = b[p + 5], stream = u32(b, p + 8);
  if (type < HELLO || type > TRAILERS) return `type ${type} is unknown`;
  if (length > MAX_PAYLOAD || (type === DATA && length > MAX_DATA) || (type === TRAILERS && length > MAX_HEAD)) return `length ${length} is over the limit`;
  if (type === TRAILERS ? flags !== END : flags !== 0 && (flags !== END || type < REQUEST || type > DATA)) return `flags ${flags} on type ${type}`;
  if ((b[p + 6] | b[p + 7]) !== 0) return 'reserved bytes are not 0';
  switch (type) {
    case HELLO: case GOAWAY: if (stream !== 0) return `type ${type} on stream ${stream}`; break;
    case PING: case PONG:
      if (stream !== 0) return `type ${type} on stream ${stream}`;
      if (length !== 8) return `ping of ${length} bytes`;
      break;
    case WINDOW:
      if (stream === 0) return 'window on stream 0';
      if (length !== 4) return `window of ${length} bytes`;
      break;
    case RESET: if (length < 1) return 'reset without a code'; break;
    default: if (stream === 0) return `type ${type} on stream 0`;
  }
  return '';
}

/** What is wrong with a HELLO's payload; '' when nothing is. */
function helloError(b, p, end) {
  if (end - p < 4 || b[p] !== 0x42 || b[p + 1] !== 0x48 || b[p + 2] !== 0x46) return 'hello: not this protocol';
  if (b[p + 3] !== 1) return `hello: version ${b[p + 3]} is unknown`;
  const role = latin1Slice(b, p + 4, end);
  for (let i = 0; i < ROLES.length; i++) if (ROLES[i] === role) return '';
  return 'hello: role is unknown';
}

/** Skips fields at p; returns what follows them, or -1 when they don't fit. */
function skipFields(b, p, end) {
  if (p >= end) return -1;
  let n = b[p++];
  while (n-- > 0) {
    if (p + 3 > end) return -1;
    p += 3 + u16(b, p + 1);
  }
  return p <= end ? p : -1;
}

/** Skips headers at p; returns where the body begins, or -1. */
function skipHeaders(b, p, end) {
  if (p + 2 > end) return -1;
  let n = u16(b, p);
  p += 2;
  while (n-- > 0) {
    if (p + 1 > end) return -1;
    p += 1 + b[p];
    if (p + 2 > end) return -1;
    p += 2 + u16(b, p);
  }
  return p <= end ? p : -1;
}

/** The value of field id among the fields at p: offsets are packed as
 * start * 65536 + length, so that looking makes no garbage; -1: not there. */
function findField(b, p, id) {
  let n = b[p++];
  while (n-- > 0) {
    const length = u16(b, p + 1);
    if (b[p] === id) return (p + 3) * 65536 + length;
    p += 3 + length;
  }
  return -1;
}

/** A field's value as text, or undefined. */
function fieldText(b, p, id) {
  const at = findField(b, p, id);
  if (at < 0) return undefined;
  const start = (at - at % 65536) / 65536;
  return utf8Slice(b, start, start + at % 65536);
}

/** A field's value as a number of 8 bytes; Infinity when it is not there. */
function fieldU64(b, p, id) {
  const at = findField(b, p, id);
  if (at < 0 || at % 65536 !== 8) return Infinity;
  const start = (at - at % 65536) / 65536;
  return u32(b, start) + u32(b, start + 4) * 4294967296;
}

/** The first value of the header called name (lower case), or undefined. */
function findHeader(b, p, name) {
  let n = u16(b, p);
  p += 2;
  while (n-- > 0) {
    const nameAt = p + 1, valueAt = nameAt + b[p] + 2, length = u16(b, valueAt - 2);
    if (b[p] === name.length && latin1Slice(b, nameAt, valueAt - 2) === name) return latin1Slice(b, valueAt, valueAt + length);
    p = valueAt + length;
  }
  return undefined;
}

/** Headers at p as a flat array: name, value, name, value, … */
function readHeaders(b, p) {
  const n = u16(b, p), flat = [];
  p += 2;
  for (let i = 0; i < n; i++) {
    const nameEnd = p + 1 + b[p], valueEnd = nameEnd + 2 + u16(b, nameEnd);
    flat[2 * i] = latin1Slice(b, p + 1, nameEnd);
    flat[2 * i + 1] = latin1Slice(b, nameEnd + 2, valueEnd);
    p = valueEnd;
  }
  return flat;
}

/** Bytes that headersOf(flat) takes; flat holds name, value, … in Latin-1. */
function headersSize(flat) {
  let n = 2;
  for (let i = 0; i < flat.length; i += 2) n += 3 + flat[i].length + flat[i + 1].length;
  return n;
}

function putHeaders(b, p, flat) {
  putU16(b, p, flat.length >>> 1);
  p += 2;
  for (let i = 0; i < flat.length; i += 2) {
    const name = flat[i], value = flat[i + 1];
    b[p++] = name.length;
    latin1Write(b, name, p, name.length);
    p += name.length;
    putU16(b, p, value.length);
    latin1Write(b, value, p + 2, value.length);
    p += 2 + value.length;
  }
  return p;
}

const TRAILER_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/, TRAILER_VALUE = /[\0\r\n]/;
const NEVER_TRAILS = new P.Set([
  'content-length', 'transfer-encoding', 'host', 'trailer', 'authorization', 'set-cookie', 'content-type', 'content-encoding', 'content-range',
  'connection', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'te', 'upgrade', 'expect', 'forwarded', 'x-request-id',
]);

/** Whether a header of this lower-case name may stand in trailers: it does
 * not frame, route or authenticate the message (RFC 9110, section 6.5.1). */
function mayTrail(name) {
  return !P.setHas(NEVER_TRAILS, name) && !P.startsWith(name, 'x-bulkhead-') && !P.startsWith(name, 'x-forwarded-');
}

/** Reads the payload of a TRAILERS frame as a flat array, without what may not
 * trail; a text says what is wrong with it. */
function readTrailers(b, p, end) {
  if (skipHeaders(b, p, end) !== end) return 'trailers are cut short or too long';
  const flat = readHeaders(b, p), kept = [];
  let n = 0;
  for (let i = 0; i < flat.length; i += 2) {
    if (!P.test(TRAILER_NAME, flat[i]) || P.test(TRAILER_VALUE, flat[i + 1])) return 'a trailer is no header';
    if (!mayTrail(flat[i])) continue;
    kept[n++] = flat[i];
    kept[n++] = flat[i + 1];
  }
  return kept;
}

module.exports = {
  HELLO, REQUEST, RESPONSE, DATA, WINDOW, RESET, GOAWAY, PING, PONG, TRAILERS, END, FRAME,
  MAX_PAYLOAD, MAX_DATA, MAX_HEAD, INITIAL_WINDOW, FIELD, CAUSE, CODE,
  u16, u32, putU16, putU32, putFrame, frameError, helloError, skipFields, skipHeaders,
  findField, fieldText, fieldU64, findHeader, readHeaders, headersSize, putHeaders, mayTrail, readTrailers,
};
