package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/docker/docker/client"
	"github.com/spf13/cobra"

	"bulkhead/images/node"
)

func newImage(a *app) *cobra.Command {
	cmd := group("image", "Build the image that tenants' code runs in",
		`image builds the container image from nothing but Node, the libraries that it
needs, certificates, time zones and Bulkhead's own runtime. It needs no registry
of images.`,
		`  bulkhead image build`)
	cmd.AddCommand(newImageBuild(a))
	return cmd
}

func newImageBuild(a *app) *cobra.Command {
	var cell, cache, state string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the image and give it to this machine's Docker",
		Example: `  bulkhead image build
  bulkhead image build -o json | jq -r .id`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := a.buildImage(cmd.Context(), node.Options{Cell: cell, Cache: cache}, state)
			if err != nil {
				return err
			}
			return a.say(img, func(w io.Writer) { fmt.Fprintln(w, img.ID) })
		},
	}
	self, _ := os.Executable()
	f := cmd.Flags()
	f.StringVar(&cell, "cell", filepath.Join(filepath.Dir(self), "bulkhead-cell"), "file: the static bulkhead-cell binary")
	f.StringVar(&cache, "cache", filepath.Join(filepath.Dir(filepath.Dir(self)), ".cache", "image"), "directory for what was fetched")
	f.StringVar(&state, "state", defaultState, "directory where \"bulkhead up\" looks for the image's ID")
	return cmd
}

func (a *app) buildImage(ctx context.Context, o node.Options, state string) (node.Image, error) {
	img, err := node.Build(ctx, o, a.stdio.err)
	if err != nil {
		return img, err
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return img, fmt.Errorf("cannot open Docker: %w", err)
	}
	defer docker.Close()
	if _, err := docker.ImageInspect(ctx, img.ID); err != nil {
		if err := node.Load(ctx, docker, img.Tar); err != nil {
			return img, fail(exitFailure, "see that Docker runs and its disk has room: docker info", "%w", err)
		}
	}
	err = errors.Join(os.MkdirAll(state, 0o711), os.WriteFile(filepath.Join(state, imageFile), []byte(img.ID+"\n"), 0o644))
	if err != nil {
		return img, fmt.Errorf("cannot note the image: %w", err)
	}
	return img, nil
}

// version is the commit that this binary was built from; scripts/build sets it.
var version = "unknown"
