package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

const mebibyte = 1 << 20

// bodyLoads are what large bodies are measured with; wrk's script for each.
var bodyLoads = []struct{ path, title, script string }{
	{"up", "1 MiB bodies up, 16 connections", `wrk.method = "POST"; wrk.body = string.rep("x", 1048576); wrk.headers["Content-Type"] = "application/octet-stream"`},
	{"down", "1 MiB bodies down, 16 connections", `wrk.method = "GET"`},
}

// bodies measures 1 MiB up and down, and streams both ways at once.
func bodies(ctx context.Context, p plan) error {
	var names []string
	results := map[string]map[string][]result{}
	streams := map[string][]float64{}
	for range p.rounds {
		err := bodiesRound(ctx, p.seconds, func(title, name string, r result) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			if results[title] == nil {
				results[title] = map[string][]result{}
			}
			results[title][name] = append(results[title][name], r)
		}, streams)
		if err != nil {
			return err
		}
	}
	for _, b := range bodyLoads {
		printLoads(b.title, names, results[b.title])
	}
	printStreams(names, streams)
	return nil
}

func bodiesRound(ctx context.Context, seconds int, take func(title, name string, r result), streams map[string][]float64) (err error) {
	r, err := newRound(ctx, false, models[3:])
	if err != nil {
		return err
	}
	defer func() { r.close(err) }()
	for _, b := range bodyLoads {
		script := filepath.Join(r.dir, b.path+".lua")
		if err := os.WriteFile(script, []byte(b.script), 0o600); err != nil {
			return err
		}
		for _, t := range r.targets {
			t.url = t.at(b.path)
			if err := bodyArrives(ctx, t, b.path); err != nil {
				return err
			}
			one, err := load(ctx, t, 16, seconds, script)
			if err != nil {
				return err
			}
			take(b.title, t.name, one)
		}
	}
	for _, t := range r.targets {
		for _, n := range streamCounts {
			rate, err := stream(ctx, t, n)
			if err != nil {
				return err
			}
			key := streamKey(t.name, n)
			streams[key] = append(streams[key], rate)
		}
	}
	return nil
}

// at is the target's URL with a path below it.
func (t target) at(path string) string {
	if t.url[len(t.url)-1] != '/' {
		return t.url + "/" + path
	}
	return t.url + path
}

// bodyArrives asks once, and checks all of what comes.
func bodyArrives(ctx context.Context, t target, path string) error {
	var a answer
	var right bool
	var err error
	if path == "down" {
		a, err = t.ask(ctx, "GET", "", nil)
		right = len(a.body) == mebibyte
	} else {
		a, err = t.ask(ctx, "POST", "", bytes.NewReader(make([]byte, mebibyte)))
		right = a.body == fmt.Sprintf(`{"bytes":%d}`, mebibyte)
	}
	if err == nil && (a.status != 200 || !right) {
		err = fmt.Errorf("answers %d and %d bytes: %.100s", a.status, len(a.body), a.body)
	}
	if err != nil {
		return fmt.Errorf("%s, %s: %w", t.name, path, err)
	}
	return nil
}
