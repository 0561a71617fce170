package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// image has every instance run another image, which one host has and the
// others get from it, and then the one before again.
func image(ctx context.Context, r *rig) (string, error) {
	h := r.fleet.Hosts[0]
	before, err := r.presence(ctx, h.Name)
	if err != nil {
		return "", err
	}
	out, err := h.Container.Run(ctx, nil, "sh", "-c", fmt.Sprintf("c=$(docker create %s) && docker commit --change 'LABEL patched=yes' $c && docker rm $c >/dev/null", before.Image))
	if err != nil {
		return "", fmt.Errorf("cannot make another image: %w: %s", err, out)
	}
	return r.thereAndBack(ctx, cluster.Rollout{Kind: cluster.RolloutImage, Image: strings.TrimSpace(out)}, func(h cluster.Host) string { return h.Image })
}

// release has every host become another release, and then the one before.
func release(ctx context.Context, r *rig) (string, error) {
	id, err := r.pack(ctx)
	if err != nil {
		return "", err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- r.fleet.Serve(serving) }()
	took, err := r.thereAndBack(ctx, cluster.Rollout{Kind: cluster.RolloutAgent, Release: id}, func(h cluster.Host) string { return h.Versions["release"] })
	stop()
	return took, errors.Join(err, <-served)
}

// pack makes a release of the same programs, which differ by a byte that none
// of them reads.
func (r *rig) pack(ctx context.Context) (id string, err error) {
	artifacts := filepath.Join(r.fleet.Dir, "artifacts")
	dir, err := os.MkdirTemp(r.fleet.Dir, "release-")
	if err != nil {
		return "", err
	}
	for _, name := range cluster.Binaries {
		data, err := os.ReadFile(filepath.Join(artifacts, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o755)
		}
		if err != nil {
			return "", err
		}
	}
	if err := os.Link(filepath.Join(artifacts, "image.tar"), filepath.Join(dir, "image.tar")); err != nil {
		return "", err
	}
	out, err := r.fleet.Bulkhead(ctx, "butane", "pack", "--artifacts", dir, "--output", "json").Output()
	var packed struct{ Release string }
	if err == nil {
		err = json.Unmarshal(out, &packed)
	}
	if err != nil {
		return "", fmt.Errorf("cannot pack a release: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*-*"))
	for _, f := range files {
		err = errors.Join(err, os.Rename(f, filepath.Join(artifacts, filepath.Base(f))))
	}
	return packed.Release, err
}

// thereAndBack rolls something out, undoes it, and makes sure of both.
func (r *rig) thereAndBack(ctx context.Context, spec cluster.Rollout, has func(cluster.Host) string) (string, error) {
	before := map[string]string{}
	for _, h := range r.fleet.Hosts {
		p, err := r.presence(ctx, h.Name)
		if err != nil {
			return "", err
		}
		before[h.Name] = has(p)
	}
	spec.Pace = everyHost().Pace
	id, err := r.begin(ctx, spec)
	if err != nil {
		return "", err
	}
	status, err := r.follow(ctx, id, cluster.RolloutDone, nil)
	if err != nil {
		return "", err
	}
	for _, h := range r.fleet.Hosts {
		if p, err := r.presence(ctx, h.Name); err != nil || has(p) == before[h.Name] {
			return "", errors.Join(err, fmt.Errorf("host %s still has %s", h.Name, before[h.Name]))
		}
	}
	if err := r.change(ctx, "undo", id); err != nil {
		return "", err
	}
	back, err := r.follow(ctx, id, cluster.RolloutDone, nil)
	if err != nil {
		return "", fmt.Errorf("undone: %w", err)
	}
	for _, h := range r.fleet.Hosts {
		if p, err := r.presence(ctx, h.Name); err != nil || has(p) != before[h.Name] {
			return "", errors.Join(err, fmt.Errorf("host %s has %s after the undo, and had %s", h.Name, has(p), before[h.Name]))
		}
	}
	return fmt.Sprintf("%s, back %s", took(status), took(back)), nil
}

func (r *rig) presence(ctx context.Context, host string) (cluster.Host, error) {
	b, err := etcd.List(ctx, r.etcd, cluster.HostKey(host))
	if err != nil || len(b.Events) == 0 {
		return cluster.Host{}, errors.Join(err, fmt.Errorf("host %s is not there", host))
	}
	var h cluster.Host
	return h, json.Unmarshal(b.Events[0].Value, &h)
}
