package cell

import (
	"os"
	"strings"
	"testing"
)

// spy is a function that looks for sockets' names wherever code might find one.
const spy = `
const fs = require('fs'), path = require('path'), DIR = %DIR%;
const tries = {
  list: () => fs.readdirSync(DIR),
  native: () => fs.readdirSync(Buffer.from(DIR)),
  url: () => fs.readdirSync(new URL('file://' + DIR)),
  opendir: () => { const d = fs.opendirSync(DIR), all = []; for (let e; (e = d.readSync());) all.push(e.name); return all; },
  glob: () => fs.globSync(DIR + '/*'),
  dots: () => fs.readdirSync('/tmp/../' + DIR),
  link: () => { const at = '/tmp/spy-' + process.pid; fs.symlinkSync(DIR, at); try { return fs.readdirSync(at); } finally { fs.unlinkSync(at); } },
  self: () => fs.readdirSync('/proc/self/cwd' + DIR),
  cp: () => { const at = '/tmp/spy-cp-' + process.pid; try { fs.cpSync(DIR, at, { recursive: true }); return fs.readdirSync(at); } finally { fs.rmSync(at, { recursive: true, force: true }); } },
  unix: () => fs.readFileSync('/proc/net/unix', 'latin1'),
  selfUnix: () => fs.readFileSync('/proc/self/net/unix', 'latin1'),
  report: () => JSON.stringify(process.report.getReport()),
  handles: () => require('util').inspect(process._getActiveHandles(), { depth: 6, showHidden: true }),
  addresses: () => process._getActiveHandles().map((h) => [h.address?.(), h._pipeName, h.remoteAddress]),
  env: () => process.env,
  binding: () => process.binding('fs').readdir(DIR, 'utf8', false),
  spawn: () => require('child_process').execSync('ls ' + DIR).toString(),
  watch: () => { fs.watch(DIR).close(); return 'watched'; },
};
module.exports = (ctx, cb) => {
  const found = {};
  for (const [name, look] of Object.entries(tries)) try { found[name] = look() ?? null; } catch (e) { found[name] = { refused: e.code ?? String(e) }; }
  cb(null, found);
};`

// A function finds no other function's socket name, nor the cell's directory
// listed, in files, links, reports or its own handles.
func TestSocketNamesStaySecret(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "cell") // /tmp is the code's to read
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := startTestCellIn(t, dir)
	victim := c.mustServe(t, Request{Function: "victim", Version: "v", File: "f.js", Code: hello})
	s := c.mustServe(t, Request{Function: "spy", Version: "v", File: "f.js", Code: strings.ReplaceAll(spy, "%DIR%", "'"+dir+"'")})
	looksForNames(t, c.get(t, s.Socket, "/"), victim.Socket)
}

// The same in the container, as the image has it.
func TestSocketNamesStaySecretInContainer(t *testing.T) {
	c := startContainer(t)
	victim := c.mustServe(t, Request{Function: "victim", Version: "v", File: "f.js", Code: hello})
	s := c.mustServe(t, Request{Function: "spy", Version: "v", File: "f.js", Code: strings.ReplaceAll(spy, "%DIR%", "'/run/cell'")})
	looksForNames(t, c.get(t, s.Socket, "/"), victim.Socket)
}

func looksForNames(t *testing.T, found, victim string) {
	t.Helper()
	_, found, _ = strings.Cut(found, "{")
	if secret := strings.Split(victim, ".")[2]; strings.Contains(found, secret) {
		t.Errorf("%s is to be found in %.20000s", victim, found)
	}
	if strings.Contains(found, ControlSocket) {
		t.Errorf("the directory can be listed: %.20000s", found)
	}
	if !strings.Contains(found, `"report":`) || !strings.Contains(found, `"list":{"refused":"ERR_ACCESS_DENIED"}`) {
		t.Errorf("the spy did not look everywhere: %.2000s", found)
	}
}
