package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// call is a request to a function, or one that carries its code.
type call struct {
	grant
	function       string // empty: the body is the code
	method, path   string
	data, dataFile string
	headers, query []string
	token          string
	include        bool
	timeout        time.Duration
	body           []byte
}

func newInvoke(a *app) *cobra.Command {
	var c call
	cmd := &cobra.Command{
		Use:   "invoke TENANT FUNCTION",
		Short: "Call a function through a proxy",
		Long: `Send a request to a function and print its answer. The token is --token or
BULKHEAD_TOKEN, else one signed for this call with the tenant's own key. The
method is GET, or POST when there is data.`,
		Example: `  bulkhead invoke acme hello
  bulkhead invoke acme hello --data '{"name": "Ada"}' --header content-type:application/json
  bulkhead invoke acme hello --path /orders/7 --query full=1 --include
  bulkhead invoke acme upload --data-file photo.jpg --method PUT`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.tenant, c.function = args[0], args[1]
			c.functions = []string{c.function}
			return a.invoke(cmd.Context(), cmd.Flags().Changed("data"), c)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.data, "data", "d", "", "the request's body")
	f.StringVar(&c.dataFile, "data-file", "", "file with the request's body; - is standard input")
	f.StringVarP(&c.method, "method", "X", "", "GET, POST, …")
	f.StringVar(&c.path, "path", "", "what follows the function's name in the path, from its slash on")
	addCallFlags(cmd, &c)
	cmd.MarkFlagsMutuallyExclusive("data", "data-file")
	return cmd
}

// addCallFlags adds what invoke and run share.
func addCallFlags(cmd *cobra.Command, c *call) {
	f := cmd.Flags()
	f.StringArrayVarP(&c.headers, "header", "H", nil, "name:value; may be repeated")
	f.StringArrayVarP(&c.query, "query", "q", nil, "name=value; may be repeated")
	f.StringVar(&c.token, "token", os.Getenv("BULKHEAD_TOKEN"), "the token to send (env BULKHEAD_TOKEN)")
	f.BoolVarP(&c.include, "include", "i", false, "print status and headers too")
	f.DurationVar(&c.timeout, "timeout", 2*time.Minute, "how long to wait for the answer")
	addGrantFlags(cmd, &c.grant)
}

func newRun(a *app) *cobra.Command {
	var c call
	cmd := &cobra.Command{
		Use:   "run TENANT FILE",
		Short: "Run code once, without deploying it",
		Long:  "Send a file's code to one of the tenant's instances, which runs it at once, and\nprint its answer; \"-\" reads the code from standard input.",
		Example: `  bulkhead run acme script.js
  echo 'module.exports = (ctx, cb) => cb(null, ctx.query.n * 2)' | bulkhead run acme - --query n=21`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.tenant, c.dataFile, c.method = args[0], args[1], http.MethodPost
			return a.invoke(cmd.Context(), false, c)
		},
	}
	addCallFlags(cmd, &c)
	return cmd
}

func (a *app) invoke(ctx context.Context, hasData bool, c call) error {
	if err := checkTenant(c.tenant); err != nil {
		return err
	}
	c.body = []byte(c.data)
	if c.dataFile != "" {
		var err error
		if c.body, err = a.readInput(c.dataFile); err != nil {
			return err
		}
	}
	if c.method == "" {
		c.method = http.MethodGet
		if hasData || c.dataFile != "" {
			c.method = http.MethodPost
		}
	}
	if c.token == "" {
		s, err := a.open(ctx)
		if err != nil {
			return err
		}
		c.token, _, err = a.sign(ctx, s, c.grant)
		s.Close()
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := a.request(ctx, c)
	if err != nil {
		return err
	}
	return a.send(r, c)
}

// target is the URL of the function, or of running code.
func (c call) target(proxy string) string {
	t := strings.TrimSuffix(proxy, "/")
	if c.function == "" {
		t += "/api/run/" + c.tenant
	} else {
		t += "/" + c.tenant + "/" + url.PathEscape(c.function)
	}
	if c.path != "" && !strings.HasPrefix(c.path, "/") {
		t += "/"
	}
	t += c.path
	query := url.Values{}
	for _, q := range c.query {
		name, value, _ := strings.Cut(q, "=")
		query.Add(name, value)
	}
	if len(query) > 0 {
		t += map[bool]string{true: "&", false: "?"}[strings.Contains(t, "?")] + query.Encode()
	}
	return t
}

func (a *app) request(ctx context.Context, c call) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, c.method, c.target(a.proxy), bytes.NewReader(c.body))
	if err != nil {
		return nil, usageError(fmt.Errorf("cannot make the request: %w", err))
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	for _, h := range c.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return nil, usageError(fmt.Errorf("--header: want name:value"))
		}
		if strings.EqualFold(name, "host") {
			r.Host = strings.TrimSpace(value)
			continue
		}
		r.Header.Add(name, strings.TrimSpace(value))
	}
	return r, nil
}
