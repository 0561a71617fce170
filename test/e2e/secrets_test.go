package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkhead/cluster"
)

// A secret is looked for wherever something of ours might leave it, after a
// day's work with it, and may be found only where docs/security.md says.

func TestNoSecretIsLeftOnThisMachine(t *testing.T) {
	secretsStaySecret(t, thisMachine(t))
}

func TestNoSecretIsLeftOnAHostWithSystemd(t *testing.T) {
	secretsStaySecret(t, hostWithSystemd(t))
}

func secretsStaySecret(t *testing.T, m *machine) {
	m.up()
	h := newHoard(m)
	h.work()
	h.planted()
	hits := h.hits()
	for _, hit := range hits {
		if !h.allowed(hit) {
			t.Errorf("found a secret: %s", hit)
		}
	}
	// What is allowed to be there is there: else the search finds nothing at all.
	for name, want := range h.expected() {
		if !slices.ContainsFunc(hits, want) {
			t.Errorf("the search does not find the secret that it must: %s, of\n%s", name, strings.Join(texts(hits), "\n"))
		}
	}
}

// hoard are the secrets of a test, each with the name that it is told by: its
// value is never printed.
type hoard struct {
	*machine
	dir     string // on the machine: of files that hold secrets, for who needs them
	secrets map[string]string
}

// hit is a secret that was found.
type hit struct{ secret, surface, place string }

func (h hit) String() string { return fmt.Sprintf("%s, by %s, in %s", h.secret, h.surface, h.place) }

func texts(hits []hit) (all []string) {
	for _, h := range hits {
		all = append(all, h.String())
	}
	return all
}

func newHoard(m *machine) *hoard {
	h := &hoard{machine: m, secrets: map[string]string{}}
	h.dir = strings.TrimSpace(m.run("mktemp", "-d"))
	m.t.Cleanup(func() { m.try("rm", "-r", h.dir) })
	return h
}

// secret makes one, and a file with it.
func (h *hoard) secret(name string) (value, file string) {
	value = rand.Text() + rand.Text() // 52 characters
	return value, h.keep(name, value)
}

// keep puts a secret into a file on the machine. It stands in no command that
// goes on to run.
func (h *hoard) keep(name, value string) string {
	h.t.Helper()
	h.secrets[name] = value
	return h.file(name, value)
}

func (h *hoard) file(name, value string) string {
	h.t.Helper()
	path := h.dir + "/" + name
	h.run("sh", "-c", fmt.Sprintf("umask 077; cat >%s <<'END'\n%s\nEND", path, value))
	return path
}

// as calls with a token that is in a file.
func (h *hoard) as(token, path string, status int, body string) {
	h.t.Helper()
	h.want(path, "", status, body, "-H", "@"+token)
}

// header makes a token and a file with a header that has it.
func (h *hoard) header(name, tenant string, args ...string) string {
	h.t.Helper()
	token := h.token(append([]string{tenant}, args...)...)
	h.secrets[name] = token
	return h.file(name, "Authorization: Bearer "+token)
}

const worker = `module.exports = (ctx, cb) => {
  console.log('at work on', Object.keys(ctx.secrets).join());
  if (ctx.query.fail === 'throw') throw new Error('on purpose');
  if (ctx.query.fail === 'die') process.kill(process.pid, 'SIGSEGV');
  cb(null, { sum: require('crypto').createHash('sha256').update(ctx.secrets.API).digest('hex') });
};`

// work is a day's work with secrets: one tenant's key is written in plain text
// with etcdctl, the other's sealed by bulkhead.
func (h *hoard) work() {
	h.t.Helper()
	late, _ := h.secret("key-put")
	early, _ := h.secret("key-applied")
	specOf := func(secret string) string {
		return fmt.Sprintf(`{"keys": [{"kid": "k1", "alg": "HS256", "secret": %q}], "replicas": {"min": 1}}`, secret)
	}
	put, apply := h.file("put.json", specOf(late)), h.file("apply.json", specOf(early))
	h.run("sh", "-c", "ETCDCTL_API=3 etcdctl --endpoints "+h.etcd+" put /bulkhead/tenants/put <"+put)
	h.bulkhead("tenant", "apply", "--name", "applied", "-f", apply, "--wait")
	h.await("the plain secret is sealed, and said to have been", func() bool {
		out := h.bulkhead("tenant", "show", "put")
		return strings.Contains(out, "written in plain text") && strings.Contains(out, "put.0")
	})
	for _, tenant := range []string{"put", "applied"} {
		value, file := h.secret("function-" + tenant)
		h.run("sh", "-c", "cat >"+h.dir+"/work.js <<'END'\n"+worker+"\nEND")
		h.bulkhead("function", "deploy", tenant, "work", h.dir+"/work.js", "--secret", "API=@"+file)
		token := h.header("token-"+tenant, tenant)
		sum := sha256.Sum256([]byte(value))
		h.as(token, "/"+tenant+"/work", 200, hex.EncodeToString(sum[:]))
		carried, carriedIn := h.secret("carried-" + tenant) // by the token, in place of the function's
		sum = sha256.Sum256([]byte(carried))
		carrier := h.header("carrier-"+tenant, tenant, "--secret", "API=@"+carriedIn)
		h.as(carrier, "/"+tenant+"/work", 200, hex.EncodeToString(sum[:]))
		sum = sha256.Sum256([]byte(value))
		h.as(token, "/"+tenant+"/work?fail=throw", 500, "on purpose")
		h.as(token, "/"+tenant+"/work?fail=die", 500, "")
		h.as(token, "/"+tenant+"/nothing", 404, "")
		h.as(token, "/"+map[string]string{"put": "applied", "applied": "put"}[tenant]+"/work", 403, "token_foreign")
		h.want("/"+tenant+"/work?key="+h.secrets["token-"+tenant], "", 200, hex.EncodeToString(sum[:]))
		// Mistakes are told without what they were made with.
		bad := h.file("bad.json", strings.Replace(specOf(h.secrets["key-"+tenant]), `"kid"`, `"secrte": "x", "kid"`, 1))
		if out, err := h.try(h.command("tenant", "apply", "--name", tenant, "-f", bad)...); err == nil {
			h.t.Errorf("a bad spec was taken: %s", out)
		} else if strings.Contains(out, h.secrets["key-"+tenant]) {
			h.t.Error("an error shows a secret")
		}
		h.bulkhead("logs", tenant, "--state", h.state)
	}
	pid := h.pid()
	h.run("kill", "-9", fmt.Sprint(pid))
	h.awaitGone(pid)
	h.up()
	h.bulkhead("host", "drain", h.name)
	h.await("the host is being drained", func() bool { return strings.Contains(h.bulkhead("status"), "applied.0 leaves") })
	h.bulkhead("host", "undrain", h.name)
	for _, tenant := range []string{"put", "applied"} {
		h.await(tenant+" is back", func() bool {
			status, _ := h.call("/"+tenant+"/work", "", "-H", "@"+h.dir+"/token-"+tenant)
			return status == 200
		})
	}
	ring := h.run("cat", h.state+"/secrets/opening-keys.json")
	_, ring, _ = strings.Cut(ring, `"value":"`)
	ring, _, _ = strings.Cut(ring, `"`)
	h.secrets["opening-key"] = ring
	h.secret("decoy")
	h.file("patterns", strings.Join(h.patterns(), "\n"))
}

// allowed says whether docs/security.md has a secret where it was found.
func (h *hoard) allowed(f hit) bool {
	instance := func(tenant string) string { return h.runs + "/instances/" + tenant + ".0/private/" }
	tenant := f.secret[strings.Index(f.secret, "-")+1:]
	switch {
	case f.secret == "decoy":
		// What was planted went through it, or can't be taken back; the audit log
		// tells the reason of each cordon.
		return strings.HasPrefix(f.place, cluster.AuditPages) || strings.HasPrefix(f.place, filepath.Join(h.state, "etcd")+"/") || f.surface == "journal" || strings.HasPrefix(f.place, "/var/log/journal/")
	case f.secret == "opening-key":
		return f.place == h.state+"/secrets/opening-keys.json"
	case strings.HasPrefix(f.secret, "key-") && f.place == instance(tenant)+"keys.json":
		return true
	case strings.HasPrefix(f.secret, "function-") && f.place == instance(tenant)+"functions/work.json":
		return true
	case f.secret == "key-put" && strings.HasPrefix(f.place, filepath.Join(h.state, "etcd")+"/"):
		return true // etcd's history, until it is compacted
	}
	return false
}

// expected are hits that there must be.
func (h *hoard) expected() map[string]func(hit) bool {
	at := func(secret, place string) func(hit) bool {
		return func(f hit) bool { return f.secret == secret && strings.HasPrefix(f.place, place) }
	}
	return map[string]func(hit) bool{
		"the runner's credential": at("key-applied", h.runs+"/instances/"),
		"the function's record":   at("function-applied", h.runs+"/instances/"),
		"the opening keys":        at("opening-key", h.state+"/secrets/"),
	}
}
