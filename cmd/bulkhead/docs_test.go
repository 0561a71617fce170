package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/cli.md's reference")

const (
	manual = "../../docs/cli.md"
	marker = "-update`. -->\n"
)

// commands calls f for every command of ours, in the order of help.
func commands(c *cobra.Command, f func(*cobra.Command)) {
	if c.Name() == "completion" || c.Name() == "help" || c.Hidden {
		return
	}
	f(c)
	for _, sub := range c.Commands() {
		commands(sub, f)
	}
}

func testRoot(t *testing.T) *cobra.Command {
	for _, name := range []string{"BULKHEAD_ENDPOINTS", "ETCDCTL_ENDPOINTS", "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY", "BULKHEAD_PROXY", "BULKHEAD_TOKEN"} {
		t.Setenv(name, "")
	}
	return newRoot(&app{})
}

func TestEveryCommandExplainsItself(t *testing.T) {
	commands(testRoot(t), func(c *cobra.Command) {
		switch {
		case c.Short == "":
			t.Errorf("%s: no short description", c.CommandPath())
		case c.Example == "":
			t.Errorf("%s: no example", c.CommandPath())
		case c.Runnable() && c.RunE == nil:
			t.Errorf("%s: Run instead of RunE loses its error", c.CommandPath())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: no explanation", c.CommandPath(), f.Name)
			}
		})
		for _, line := range strings.Split(c.Example, "\n") {
			if c.HasParent() && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example's line %q is not indented", c.CommandPath(), line)
			}
		}
	})
}

// reference is the part of the manual that comes from the commands.
func reference(root *cobra.Command) string {
	var b strings.Builder
	commands(root, func(c *cobra.Command) {
		fmt.Fprintf(&b, "\n## %s\n\n", c.CommandPath())
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		fmt.Fprintf(&b, "%s\n", text)
		if c.HasParent() && !c.HasSubCommands() {
			fmt.Fprintf(&b, "\n    %s\n", c.UseLine())
		}
		c.LocalFlags().VisitAll(anywhere)
		if flags := c.LocalFlags().FlagUsages(); strings.TrimSpace(flags) != "" {
			fmt.Fprintf(&b, "\n%s", indent(flags, "  "))
		}
		fmt.Fprintf(&b, "\nFor example:\n\n%s", indent(c.Example, "  "))
	})
	return b.String()
}

// anywhere takes out of a flag's default what differs from machine to machine.
func anywhere(f *pflag.Flag) {
	host, _ := os.Hostname()
	program, _ := os.Executable()
	bin := filepath.Dir(program)
	switch {
	case f.DefValue == host:
		f.DefValue = "the machine's"
	case strings.HasPrefix(f.DefValue, bin):
		f.DefValue = "where bulkhead is" + strings.TrimPrefix(f.DefValue, bin)
	case strings.HasPrefix(f.DefValue, filepath.Dir(bin)):
		f.DefValue = "where bulkhead is/.." + strings.TrimPrefix(f.DefValue, filepath.Dir(bin))
	}
}

func indent(text, by string) string {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		b.WriteString(strings.TrimRight(by+line, " ") + "\n")
	}
	return b.String()
}

func TestDocsMatchHelp(t *testing.T) {
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	intro, have, ok := strings.Cut(string(data), marker)
	if !ok {
		t.Fatalf("%s has lost the line that ends in %q", manual, marker)
	}
	want := reference(testRoot(t))
	if *update {
		if err := os.WriteFile(manual, []byte(intro+marker+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("docs/cli.md does not say what --help says: go test ./cmd/bulkhead -run Docs -update")
	}
}

func TestDocsListExitCodes(t *testing.T) {
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	for code := exitOK; code <= exitLate; code++ {
		if !strings.Contains(string(data), fmt.Sprintf("\n| %d | ", code)) {
			t.Errorf("docs/cli.md does not list exit code %d", code)
		}
	}
}
