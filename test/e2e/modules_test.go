package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Functions require real npm packages of a set that lies in their host's archives.
func TestModulesOnThisMachine(t *testing.T) {
	m := thisMachine(t)
	set, archive := setOf(t, npmPackages(t, "modules"))
	m.up()
	m.archive(set, archive)
	t.Run("every kind of package", func(t *testing.T) { everyPackage(t, m, set) })
	t.Run("a function goes on until its set is there", func(t *testing.T) { setComesLater(t, m, archive) })
	t.Run("nobody sees what others have", func(t *testing.T) { nothingOfOthers(t, m) })
}

// npmPackages is where the Node tests have installed a list of packages.
func npmPackages(t *testing.T, list string) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(cacheDir(t), list+"-*", "done"))
	if err != nil || len(dirs) == 0 {
		t.Skip("the npm packages of the Node tests are not here: scripts/test gets them")
	}
	return filepath.Dir(dirs[len(dirs)-1])
}

func cacheDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("BULKHEAD_CACHE"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, ".cache/bulkhead/image")
}

// setOf makes a set's archive of a directory with node_modules, as a builder does.
func setOf(t *testing.T, dir string) (set string, archive []byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(name string, h tar.Header, data []byte) {
		h.Name, h.ModTime, h.Format, h.Size = name, time.Unix(0, 0), tar.FormatPAX, int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(filepath.Join(dir, "node_modules"), func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(d.Name(), ".") && filepath.Base(filepath.Dir(path)) == "node_modules":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			put(name+"/", tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}, nil)
			return nil
		}
		data, err := os.ReadFile(path)
		put(name, tar.Header{Typeflag: tar.TypeReg, Mode: 0o644}, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	put("package-lock.json", tar.Header{Typeflag: tar.TypeReg, Mode: 0o644}, lock)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:]), b.Bytes()
}

// archive puts a set's archive on the machine, as a builder does.
func (m *machine) archive(set string, data []byte) {
	m.t.Helper()
	dir := m.state + "/modules/archives"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/.new", data, 0o644); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(dir+"/.new", dir+"/"+set+".tar"); err != nil {
		m.t.Fatal(err)
	}
}

// built writes a function as it is once a builder has found its set.
func (c *tenant) built(function, file, code, set string, want map[string]string) {
	c.m.t.Helper()
	value, err := json.Marshal(map[string]any{"file": file, "code": code, "modules": map[string]any{"want": want, "set": set}})
	if err != nil {
		c.m.t.Fatal(err)
	}
	c.m.run("env", "ETCDCTL_API=3", "etcdctl", "--endpoints", c.m.etcd, "put", "/bulkhead/functions/"+c.name+"/"+function, string(value))
}

// awaitAnswer calls until an answer has want in it.
func (c *tenant) awaitAnswer(function, want string) {
	c.m.t.Helper()
	var g got
	defer func() {
		if c.m.t.Failed() {
			c.m.t.Logf("%s answers %d %s, want %q", function, g.status, g.body, want)
		}
	}()
	c.m.await(function+" answers "+want, func() bool { g = c.get(function); return strings.Contains(g.body, want) })
}

var wanted = map[string]string{"@node-rs/crc32": "1", "@sindresorhus/is": "7", "express": "5", "lodash": "4", "lodash@4.17.20": "4.17.20", "nanoid": "5"}

func everyPackage(t *testing.T, m *machine, set string) {
	c := m.tenant("modules", `"limits": {"rate": 0}`)
	c.built("all", "all.js", `
		const app = require('express')(), lodash = require('lodash'), old = require('lodash@4.17.20'), { crc32 } = require('@node-rs/crc32');
		app.get('/', async (req, res) => { const { nanoid } = await import('nanoid'); const { default: is } = await import('@sindresorhus/is');
			res.json([lodash.VERSION, old.VERSION, crc32('hello'), nanoid().length, is(1)]); });
		module.exports = (ctx, req, res) => app(req, res);`, set, wanted)
	c.awaitAnswer("all", `["4.17.21","4.17.20",907060870,21,"number"]`)
	c.built("esm", "esm.mjs", `import lodash from 'lodash'; import old from 'lodash@4.17.20'; export default async () => [lodash.VERSION, old.VERSION];`, set, wanted)
	c.awaitAnswer("esm", `["4.17.21","4.17.20"]`)
	c.built("typed", "typed.ts", `import { nanoid } from 'nanoid'; export default async (): Promise<number> => nanoid().length;`, set, wanted)
	c.awaitAnswer("typed", `21`)
	c.built("lacks", "lacks.js", `require('left-pad');`, set, wanted)
	c.awaitAnswer("lacks", `Cannot find package 'left-pad': this function has @node-rs/crc32, @sindresorhus/is, express`)
}

func setComesLater(t *testing.T, m *machine, archive []byte) {
	c := m.tenant("later", `"limits": {"rate": 0}`)
	c.mustDeploy("one", `module.exports = async () => 'before'`)
	c.awaitAnswer("one", "before")
	// Another set: one byte more at its end.
	archive = append(bytes.Clone(archive), make([]byte, 512)...)
	sum := sha256.Sum256(archive)
	set := hex.EncodeToString(sum[:])
	c.built("one", "one.js", `module.exports = async () => require('lodash').VERSION`, set, wanted)
	c.built("two", "two.js", `module.exports = async () => require('lodash').VERSION`, set, wanted)
	c.awaitAnswer("two", `"modules_missing"`)
	if g := c.get("one"); g.status != 200 || !strings.Contains(g.body, "before") {
		t.Fatalf("the version before is gone: %d %s", g.status, g.body)
	}
	m.archive(set, archive)
	c.awaitAnswer("one", "4.17.21")
	c.awaitAnswer("two", "4.17.21")
}

// nothingOfOthers has a tenant's code try what it may not.
func nothingOfOthers(t *testing.T, m *machine) {
	sets, err := filepath.Glob(m.state + "/modules/sets/*")
	if err != nil || len(sets) == 0 {
		t.Fatalf("there is no set to be found: %v", err)
	}
	c := m.tenant("curious", `"limits": {"rate": 0}`)
	c.mustDeploy("look", `const fs = require('fs'); const code = (f) => { try { return JSON.stringify(f()).slice(0, 80); } catch (e) { return e.code; } };
		module.exports = async () => ({
			list: code(() => fs.readdirSync('/modules')), open: code(() => fs.readdirSync('/modules', { recursive: true })), glob: code(() => fs.globSync('/modules/*')),
			write: code(() => fs.writeFileSync('/modules/x', 'x')), guess: code(() => fs.statSync('/modules/00000000000000000000000000000000')),
			native: code(() => { fs.writeFileSync('/tmp/x.node', 'x'); process.dlopen({ exports: {} }, '/tmp/x.node'); }),
			mount: fs.readFileSync('/etc/resolv.conf') && 'there' })`)
	g := c.get("look")
	var saw map[string]string
	if err := json.Unmarshal([]byte(g.body), &saw); err != nil {
		t.Fatalf("it answers %d %s: %v", g.status, g.body, err)
	}
	want := map[string]string{"list": "EACCES", "open": "EACCES", "glob": "[]", "write": "ERR_ACCESS_DENIED", "guess": "ENOENT", "native": "ERR_DLOPEN_FAILED", "mount": "there"}
	if !maps.Equal(saw, want) {
		t.Errorf("it sees %v, want %v", saw, want)
	}
}
