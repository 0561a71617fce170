package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// send prints the answer and judges its status.
func (a *app) send(r *http.Request, c call) error {
	// A redirect is the function's answer; following it would hand the token on.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		if r.Context().Err() != nil {
			return fail(exitLate, "--timeout gives it longer", "no answer within %s", c.timeout)
		}
		return fail(exitUnreachable, "is a proxy up there (bulkhead up)? Else name one: --proxy URL or BULKHEAD_PROXY", "cannot reach the proxy at %s: %w", a.proxy, err)
	}
	defer resp.Body.Close()
	body := &bytes.Buffer{}
	if err := a.print(resp, body, c.include); err != nil {
		return fmt.Errorf("cannot read the whole answer: %w", err)
	}
	return judge(resp, body.Bytes(), c)
}

// print passes the answer on as it comes, and keeps its beginning for judge.
func (a *app) print(resp *http.Response, kept *bytes.Buffer, include bool) error {
	if a.output == "json" {
		if _, err := io.Copy(kept, resp.Body); err != nil {
			return err
		}
		answer := map[string]any{"status": resp.StatusCode, "headers": resp.Header, "body": kept.Bytes()}
		if utf8.Valid(kept.Bytes()) {
			answer["body"] = kept.String()
		}
		return a.say(answer, nil)
	}
	if include {
		fmt.Fprintf(a.out, "%s %s\n", resp.Proto, resp.Status)
		_ = resp.Header.Write(a.out)
		fmt.Fprintln(a.out)
	}
	tail := &lastByte{Writer: a.out}
	_, err := io.Copy(tail, io.TeeReader(resp.Body, &head{kept, 64 << 10}))
	if tail.written && tail.last != '\n' && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		fmt.Fprintln(a.out) // for the reader's terminal; JSON doesn't mind
	}
	return err
}

// judge turns a status that is no success into an error with its exit code.
func judge(resp *http.Response, body []byte, c call) error {
	var platform struct {
		Error   string `json:"error"`
		Message string `json:"message"`
		Request string `json:"req_id"`
	}
	_ = json.Unmarshal(body, &platform)
	said := fmt.Sprintf("answered %s", resp.Status)
	if platform.Request != "" && platform.Message != "" {
		said = fmt.Sprintf("%s: %s (request %s)", resp.Status, platform.Message, platform.Request)
	}
	what := c.tenant + "/" + c.function
	switch {
	case resp.StatusCode < 400:
		return nil
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fail(exitRefused, "bulkhead token "+c.tenant+" signs one that fits", "%s refused it: %s", what, said)
	case resp.StatusCode == http.StatusNotFound && platform.Request != "":
		return fail(exitNotFound, "bulkhead function list "+c.tenant+" shows those there are", "%s: %s", what, said)
	}
	return fail(exitCode, "bulkhead logs "+c.tenant+" shows what its code printed", "%s %s", what, said)
}

// head keeps at most room bytes of what is written to it.
type head struct {
	*bytes.Buffer
	room int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.room-h.Len())
	h.Buffer.Write(p[:n])
	return len(p), nil
}

// lastByte remembers how what was written ended.
type lastByte struct {
	io.Writer
	last    byte
	written bool
}

func (l *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.last, l.written = p[len(p)-1], true
	}
	return l.Writer.Write(p)
}
