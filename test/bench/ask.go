package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// target is something that answers GET /…?name=x with {"hello":"x"}.
type target struct {
	name  string
	url   string
	token string
	hops  map[string]func() ticks // whose CPU is told apart: by name, its time until now
}

const helloX = `{"hello":"x"}`

// client keeps a connection, as any program that asks twice does.
var client = &http.Client{
	Timeout:   time.Minute,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
}

// answer is what came back, and how long all of it took.
type answer struct {
	status int
	body   string
	took   time.Duration
}

func (t target) ask(ctx context.Context, method, query string, body io.Reader) (answer, error) {
	begun := time.Now()
	req, err := http.NewRequestWithContext(ctx, method, t.url+query, body)
	if err != nil {
		return answer{}, err
	}
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(b), time.Since(begun)}, err
}

// once asks and refuses another answer than the one wanted: what is measured
// must do the work.
func (t target) once(ctx context.Context, want string) (time.Duration, error) {
	a, err := t.ask(ctx, "GET", "", nil)
	if err == nil && (a.status != 200 || a.body != want) {
		err = fmt.Errorf("answers %d %.200s", a.status, a.body)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", t.name, err)
	}
	return a.took, nil
}

// until asks again and again for the answer wanted, and returns the time since
// begun.
func (t target) until(ctx context.Context, begun time.Time, want string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		a, err := t.ask(ctx, "GET", "", nil)
		if err == nil && a.status == 200 && a.body == want {
			return time.Since(begun), nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%s never answered %s; last: %d %.200s %v", t.name, want, a.status, a.body, err)
		}
		time.Sleep(time.Millisecond)
	}
}
