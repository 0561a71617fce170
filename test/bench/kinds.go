package main

import "fmt"

// kind is a way for code not to come back.
type kind struct {
	name  string
	body  string // of an async function
	limit int    // how many times limits.block passes before the platform may act; 0: once
	ends  bool   // nothing can interrupt it: its process ends, and whoever else was in it is told or retried
}

// kinds of loops, and of other code that holds the only thread of its process.
var kinds = []kind{
	{name: "`for (;;) ;`", body: `for (;;) ;`},
	{name: "a loop that computes", body: `for (;;) work();`},
	{name: "a loop that catches everything", body: `for (;;) { try { for (;;) ; } catch (e) { for (;;) ; } finally { for (;;) ; } }`},
	{name: "promises, one after the other", body: `const f = () => Promise.resolve().then(f); f();`},
	{name: "`await null` forever", body: `for (;;) await null;`},
	{name: "process.nextTick forever", body: `const f = () => process.nextTick(f); f();`},
	{name: "a regular expression", body: `/^(a+)+$/.test('a'.repeat(40) + 'b');`},
	{name: "toJSON", body: `JSON.stringify({ toJSON() { for (;;) ; } });`},
	{name: "a timer's callback", body: `setTimeout(() => { for (;;) ; }, 5);`},
	{name: "after an await", body: `await new Promise((go) => setTimeout(go, 5)); for (;;) ;`},
	{name: "a callback of IO", body: `require('fs').readFile('/etc/passwd', () => { for (;;) ; });`},
	{name: "a getter", body: `const o = { get x() { for (;;) ; } }; o.x;`},
	{name: "a generator", body: `function* g() { for (;;) yield 1; } for (const x of g()) ;`},
	{name: "a proxy's trap", body: `new Proxy({}, { get() { for (;;) ; } }).x;`},
	{name: "a sort's comparator", body: `[3, 1, 2].sort(() => { for (;;) ; });`},
	{name: "replace's callback", body: `'aaa'.replace(/a/g, () => { for (;;) ; });`},
	{name: "sorting typed arrays", body: `const a = new Float64Array(3e5); for (;;) { for (let i = 0; i < a.length; i++) a[i] = -i; a.sort(); }`},
	{name: "eval", body: `eval('for (;;) ;');`},
	{name: "a vm's code", body: `require('vm').runInNewContext('for (;;) ;');`},
	{name: "setImmediate forever (limits.cpu)", body: `const f = () => { work(); setImmediate(f); }; f();`, limit: 2},
	{name: "Atomics.wait (blocked: three times)", body: `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`, limit: 3},
	{name: "a power of a BigInt", body: `(3n ** 9000000n).toString();`, ends: true},
	{name: "pbkdf2Sync", body: `require('crypto').pbkdf2Sync('a', 'b', 1e9, 64, 'sha512');`, ends: true},
	{name: "a handler of the debugger's signal", body: `process.on('SIGUSR1', () => {}); for (;;) ;`, ends: true},
}

// code is a function that is guilty when asked to be, and else answers after
// so many milliseconds, if its process is still there.
func (k kind) code(round int) string {
	return fmt.Sprintf(`// round %d
const work = () => { let n = 0; for (let i = 0; i < 100000; i++) n += Math.sqrt(i); return n; };
async function guilty() {
%s
}
module.exports = (ctx, cb) => {
  if (ctx.query.guilty) guilty();
  else if (ctx.query.wait) setTimeout(() => cb(null, 'survived'), Number(ctx.query.wait));
  else cb(null, { round: %d });
};
`, round, k.body, round)
}
