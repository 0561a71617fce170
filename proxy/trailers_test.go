package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
)

// headerList makes a header list of pairs.
func headerList(pairs ...string) frames.Headers {
	h := frames.AppendHeaderCount(nil)
	for i := 0; i < len(pairs); i += 2 {
		h = frames.AppendHeaderLine(h, 0, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	return h
}

func TestTrailersGoBothWays(t *testing.T) {
	got := make(chan frames.Headers, 1)
	p := start(t, func(x *framestest.Exchange) {
		body, _ := io.ReadAll(x.Body)
		got <- x.Trailers()
		x.Answer(200, map[string]string{"x-sum": "as a header"}, string(body), false)
		x.Trail(headerList("x-sum", "1", "x-sum", "2", "content-length", "7", "set-cookie", "a=b", "server-timing", "a;dur=1"))
	})
	req := newRequest(t, "POST", p.url+"/acme/x", io.MultiReader(strings.NewReader("some body")))
	req.Trailer = http.Header{"X-Sum": {"42"}, "X-Bulkhead-Tenant": {"globex"}}
	resp, body := get(t, req)
	trailers := <-got
	if string(trailers.Get("x-sum")) != "42" || trailers.Get("x-bulkhead-tenant") != nil {
		t.Errorf("the function got %q", trailers)
	}
	if body != "some body" || resp.Header.Get("X-Sum") != "as a header" {
		t.Errorf("got %q %v", body, resp.Header)
	}
	if v := resp.Trailer.Values("X-Sum"); len(v) != 2 || v[0] != "1" || v[1] != "2" || resp.Trailer.Get("Server-Timing") != "a;dur=1" || len(resp.Trailer) != 2 {
		t.Errorf("the client got %v", resp.Trailer)
	}
}

func TestTrailersThatCannotBeSentAreLeftOut(t *testing.T) {
	p := start(t, func(x *framestest.Exchange) {
		headers := map[string]string{}
		if strings.HasSuffix(string(x.Request.Target), "length") {
			headers["content-length"] = "4"
		}
		x.Answer(200, headers, "body", false)
		x.Trail(headerList("x-sum", "1"))
	})
	for name, raw := range map[string]string{
		"HTTP/1.0":            "GET /acme/x HTTP/1.0\r\n\r\n",
		"with content-length": "GET /acme/length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"HEAD":                "HEAD /acme/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	} {
		all, err := io.ReadAll(dial(t, p, raw))
		if err != nil || strings.Contains(string(all), "x-sum") || name != "HEAD" && !strings.HasSuffix(string(all), "\r\n\r\nbody") {
			t.Errorf("%s: got %q %v", name, all, err)
		}
	}
}
