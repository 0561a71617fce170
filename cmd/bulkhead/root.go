package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// stdio are the streams a command talks through.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// app is what all commands share: streams and global flags.
type app struct {
	stdio
	endpoints     []string
	ca, cert, key string
	proxy         string
	opening, kms  string // file of the keys that open secrets, and who wraps it
	output        string
	parsed        bool   // flags and arguments were understood
	command       string // that is carried out, without its arguments
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, io stdio) int {
	a := &app{stdio: io}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !a.parsed {
		err = usageError(err)
	}
	return a.fail(err)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "bulkhead",
		Short: "Run other people's JavaScript safely on your own fleet",
		Long: `bulkhead registers tenants, deploys and calls their functions and shows how
the cluster is. Everything it does is a key in etcd or a request to a proxy.`,
		Example: `  bulkhead tenant apply -f acme.yaml --wait
  bulkhead function deploy acme hello hello.js
  bulkhead invoke acme hello
  bulkhead status`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := root.PersistentFlags()
	f.StringSliceVar(&a.endpoints, "endpoints", endpointsFromEnv(), "etcd's URLs (env BULKHEAD_ENDPOINTS or ETCDCTL_ENDPOINTS)")
	f.StringVar(&a.ca, "cacert", os.Getenv("ETCDCTL_CACERT"), "file: CA of etcd's certificates (env ETCDCTL_CACERT)")
	f.StringVar(&a.cert, "cert", os.Getenv("ETCDCTL_CERT"), "file: our certificate for etcd (env ETCDCTL_CERT)")
	f.StringVar(&a.key, "key", os.Getenv("ETCDCTL_KEY"), "file: its private key (env ETCDCTL_KEY)")
	f.StringVar(&a.opening, "opening-keys", os.Getenv("BULKHEAD_OPENING_KEYS"), "file: the keys that open sealed secrets (env BULKHEAD_OPENING_KEYS; default: where bulkhead up on this machine keeps them)")
	f.StringVar(&a.kms, "kms", os.Getenv("BULKHEAD_KMS"), "unix socket of the KMS plug-in that wraps that file (Kubernetes' KMS v2; env BULKHEAD_KMS); empty: it is in plain text")
	f.StringVar(&a.proxy, "proxy", fromEnv("http://127.0.0.1:8080", "BULKHEAD_PROXY"), "URL of any host's proxy (env BULKHEAD_PROXY)")
	f.StringVarP(&a.output, "output", "o", "text", "text or json")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	for _, verb := range verbs {
		root.AddCommand(verb(a))
	}
	a.wrap(root)
	return root
}

// wrap notes when a command line has been understood: whatever fails before a
// command runs is a mistake in how it was called.
func (a *app) wrap(c *cobra.Command) {
	if do := c.RunE; do != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if a.output != "text" && a.output != "json" {
				return fmt.Errorf("--output %q: want text or json", a.output)
			}
			a.parsed, a.command = true, cmd.CommandPath()
			return do(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		a.wrap(sub)
	}
}

// group is a command that only holds others; called by itself it shows help,
// called with an unknown name it says so.
func group(use, short, long, example string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("unknown command %q for %q; did you mean %q?", args[0], cmd.CommandPath(), near[0])
			}
			return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		},
		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
}

func fromEnv(otherwise string, names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return otherwise
}

func endpointsFromEnv() []string {
	return strings.Split(fromEnv("http://127.0.0.1:2379", "BULKHEAD_ENDPOINTS", "ETCDCTL_ENDPOINTS"), ",")
}
