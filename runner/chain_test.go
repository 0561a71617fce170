package runner

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/cluster"
)

// do sends a request through the proxy.
func (r *rig) do(req *http.Request) (*http.Response, string) {
	r.t.Helper()
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(body)
}

func TestTrailersOfAClientReachTheFunctionAndItsOwnComeBack(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `module.exports = (ctx, req, res) => {
  req.resume().on('end', () => { res.write('body'); res.addTrailers({ 'X-Back': req.trailers['x-sum'] }); res.end(); });
};`)
	addr := r.through()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/acme/f", io.MultiReader(strings.NewReader("x")))
	req.Trailer = http.Header{"X-Sum": {"42"}}
	resp, body := r.do(req)
	if resp.StatusCode != 200 || body != "body" || resp.Trailer.Get("X-Back") != "42" {
		t.Fatalf("got %d %q %v", resp.StatusCode, body, resp.Trailer)
	}
}

func TestHeadHasTheHeadOfAnAnswerOnly(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `module.exports = (ctx, req, res) => { res.setHeader('x-method', req.method); res.end('body'); };`)
	addr := r.through()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	req, _ := http.NewRequestWithContext(t.Context(), "HEAD", "http://"+addr+"/acme/f", nil)
	if resp, body := r.do(req); resp.StatusCode != 200 || body != "" || resp.Header.Get("X-Method") != "HEAD" {
		t.Fatalf("got %d %q %v", resp.StatusCode, body, resp.Header)
	}
}

func TestRefusedBodiesStayWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	r := newRig(t, cluster.Limits{Body: 2_000_000})
	r.deploy("f", `module.exports = (ctx, req, res) => { let n = 0; req.on('data', (c) => { n += c.length; }).on('end', () => res.end(String(n))); };`)
	addr := r.through()
	for _, tt := range []struct {
		name, token string
		size        int
		want        string
	}{
		{"let in", r.token, 2_000_000, "200 2000000"},
		{"no good token", "x", 2_000_000, "401 0"},
		{"too large", r.token, 2_000_001, "413 0"},
	} {
		cmd := exec.Command(curl, "-s", "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", "-H", "Authorization: Bearer "+tt.token, "--data-binary", "@-", "http://"+addr+"/acme/f")
		cmd.Stdin = strings.NewReader(strings.Repeat("z", tt.size))
		if out, err := cmd.Output(); err != nil || string(out) != tt.want {
			t.Errorf("%s: got %s %v, want %s", tt.name, out, err, tt.want)
		}
	}
}
