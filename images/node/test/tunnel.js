'use strict';
// The client's end of an upgraded stream, as the proxy would give it to a real
// WebSocket client: HTTP is spoken here, frames beyond.

const { Duplex } = require('node:stream');

const WINDOW = 262144;

class Tunnel extends Duplex {
  #client; #fields; #id = 0; #head = ''; #credit = WINDOW; #waiting = null;

  constructor(client, fields) {
    super();
    this.#client = client;
    this.#fields = fields;
    client.on('frame', (f) => { if (f.stream === this.#id && this.#id !== 0) this.#frame(f); });
  }

  setTimeout() { return this; }
  setNoDelay() { return this; }
  setKeepAlive() { return this; }
  ref() { return this; }
  unref() { return this; }

  _read() {}

  _write(chunk, encoding, done) {
    if (this.#id !== 0) { this.#send(chunk, done); return; }
    this.#head += chunk.toString('latin1');
    const end = this.#head.indexOf('\r\n\r\n');
    if (end >= 0) this.#open(this.#head.slice(0, end).split('\r\n'));
    done();
  }

  #open([line, ...lines]) {
    const [method, target] = line.split(' ');
    const headers = lines.map((l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()]);
    this.#id = this.#client.open({ method, target, fields: this.#fields, headers }, '', false);
  }

  #send(chunk, done) {
    const n = Math.min(chunk.length, this.#credit, 65536);
    if (n === 0) { this.#waiting = () => this.#send(chunk, done); return; }
    this.#credit -= n;
    this.#client.data(this.#id, chunk.subarray(0, n));
    if (n === chunk.length) done(); else this.#send(chunk.subarray(n), done);
  }

  #frame(f) {
    if (f.type === 'WINDOW') {
      this.#credit += f.credit;
      const go = this.#waiting;
      this.#waiting = null;
      go?.();
    }
    if (f.type === 'RESPONSE') this.push(`HTTP/1.1 ${f.status} X\r\n${f.headers.map(([n, v]) => `${n}: ${v}\r\n`).join('')}${f.status === 101 ? 'connection: upgrade\r\n' : ''}\r\n`);
    if ((f.type === 'RESPONSE' || f.type === 'DATA') && f.body.length !== 0) {
      this.push(f.body);
      this.#client.window(this.#id, f.body.length);
    }
    if (f.end || f.type === 'RESET') this.push(null);
  }

  _final(done) { this.#client.data(this.#id, '', true); done(); }

  _destroy(err, done) {
    if (err !== null) this.#client.reset(this.#id, 1);
    done(err);
  }
}

module.exports = { Tunnel };
