package e2e

import (
	"strings"
	"testing"
)

// Packages come from the registry that npm is set up for, by way of the
// allow-list and the builder, to a function that is called over HTTP. That
// tampered tarballs are refused, and that no request goes out for a name that is
// not on the list, is shown in package modules, against a registry of the test's.
func TestPackagesOfTheRegistry(t *testing.T) {
	m := thisMachine(t)
	m.up()
	c := m.tenant("packages", `"limits": {"rate": 0, "wall": "30s"}, "resources": {"memory": "256MiB"}`)
	allow := func(args ...string) { m.bulkhead(append([]string{"modules", "allow"}, args...)...) }
	for _, p := range []string{"express@^4", "lodash@^4.17.20", "nanoid@^5", "@sindresorhus/slugify@^2", "react@^18", "react-dom@^18", "@node-rs/argon2@^2", "bcrypt@^5"} {
		allow(p)
	}
	allow("better-sqlite3@^12", "--scripts", "--reason", "it is C++, and compiled by us")
	for _, no := range []struct{ module, says string }{
		{"left-pad@^1", "left-pad is not on the list of packages"},
		{"lodash@^3", "lodash"},
		{"bcrypt@^5", "install script"},
	} {
		err := c.deploy("no", `module.exports = async () => 'never'`, "--module", no.module)
		if err == nil || !strings.Contains(err.Error(), no.says) || !strings.Contains(err.Error(), "bulkhead modules allow") {
			t.Errorf("%s: %v, want it refused with %q, and what to do", no.module, err, no.says)
		}
	}
	if g := c.get("no"); g.status != 404 {
		t.Errorf("what was refused answers %d %s", g.status, g.body)
	}
	flags := []string{"--build-timeout", "10m"}
	for _, module := range []string{"express@^4", "lodash@^4.17.21", "nanoid@^5", "@sindresorhus/slugify@^2", "react@^18", "react-dom@^18", "@node-rs/argon2@^2", "better-sqlite3@^12"} {
		flags = append(flags, "--module", module)
	}
	c.mustDeploy("all", `
		const app = require('express')(), lodash = require('lodash'), old = require('lodash@4.17.20'), argon2 = require('@node-rs/argon2');
		const { renderToString } = require('react-dom/server'), { createElement } = require('react'), Database = require('better-sqlite3');
		app.get('/', async (req, res) => {
			const { nanoid } = await import('nanoid'), { default: slugify } = await import('@sindresorhus/slugify'), db = new Database(':memory:');
			res.json([lodash.VERSION > old.VERSION, old.VERSION, nanoid().length, slugify('Old Town'), renderToString(createElement('b')),
				argon2.verifySync(argon2.hashSync('x'), 'x'), db.prepare('select 6 * 7 as n').get().n]);
		});
		module.exports = (ctx, req, res) => app(req, res);`, flags...)
	c.awaitAnswer("all", `[true,"4.17.20",21,"old-town","<b></b>",true,42]`)

	// What is denied is built no more, and its users are named; they go on.
	if says := m.bulkhead("modules", "deny", "lodash@4.17.20"); !strings.Contains(says, "function all of tenant packages") {
		t.Errorf("a denied version's users are not named: %s", says)
	}
	if err := c.deploy("late", `module.exports = async () => require('lodash@4.17.20').VERSION`); err == nil || !strings.Contains(err.Error(), "4.17.20") {
		t.Errorf("a denied version is built: %v", err)
	}
	c.awaitAnswer("all", `"4.17.20"`)
}
