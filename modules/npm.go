package modules

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// BuilderUID is whom npm runs as: nobody else's, and just below the proxy's.
const BuilderUID = 399999

// npmWithin is how long npm may take for a step.
const npmWithin = 10 * time.Minute

// npmSettings are what npm is told whatever its configuration says. Nothing of a
// package runs, and nothing but packages of the registry is fetched: URLs,
// repositories and directories are refused before they are asked for.
var npmSettings = map[string]string{
	"ignore_scripts": "true", "allow_git": "none", "allow_remote": "none", "allow_file": "none", "allow_directory": "none",
	"omit_lockfile_registry_resolved": "true", "lockfile_version": "3", "audit": "false", "fund": "false", "update_notifier": "false",
	"progress": "false", "color": "false", "global": "false", "install_strategy": "hoisted", "package_lock": "true", "dry_run": "false",
	"include": "", "omit": "dev", "workspaces": "false", "save": "true", "json": "true", "foreground_scripts": "false", "prefer_dedupe": "false",
}

// npm runs npm in a directory.
type npm struct {
	tools
	dir   string    // where package.json is; it belongs to the user
	cache string    // npm's; it belongs to the user too
	user  string    // file: the configuration of whoever runs the builder; "": none
	log   io.Writer // what npm says
}

// run runs npm and turns its failure into a sentence.
func (n npm) run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, npmWithin)
	defer cancel()
	var out bytes.Buffer
	// A file may have a GiB: what unpacks to more fills no disk.
	line := append([]string{"-c", `ulimit -f 2097152; exec "$@"`, "npm", filepath.Join(n.node, "bin/node"), filepath.Join(n.npm, "bin/npm-cli.js")}, args...)
	cmd := exec.CommandContext(ctx, "/bin/sh", line...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = n.dir, n.env(), &limited{&out, 1 << 20}, n.log
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: BuilderUID, Gid: BuilderUID}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("npm %s has not ended within %s: does the registry answer? (npm ping)", args[0], npmWithin)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("npm cannot be run as user %d in %s: every directory above has to let it pass (chmod o+x), and the file system to run programs: %w", BuilderUID, n.dir, err)
	}
	return npmError(out.Bytes(), err)
}

// env is npm's environment: how to reach the registry is as the machine's npm has
// it, files, variables and all.
func (n npm) env() []string {
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + n.dir, "LANG=C.UTF-8"}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		lower := strings.ToLower(name)
		_, ours := npmSettings[strings.TrimPrefix(lower, "npm_config_")]
		if slices.Contains([]string{"http_proxy", "https_proxy", "no_proxy", "node_extra_ca_certs", "ssl_cert_file"}, lower) ||
			strings.HasPrefix(lower, "npm_config_") && !ours && !slices.Contains(paths, lower) {
			env = append(env, v)
		}
	}
	for name, value := range npmSettings {
		env = append(env, "npm_config_"+name+"="+value)
	}
	return append(env, "npm_config_cache="+n.cache, "npm_config_userconfig="+cmp.Or(n.user, "/dev/null"), "npm_config_globalconfig="+machineConfig())
}

// paths are settings that name places of npm's own.
var paths = []string{"npm_config_cache", "npm_config_userconfig", "npm_config_globalconfig", "npm_config_prefix", "npm_config_local_prefix", "npm_config_nodedir", "npm_config_node_gyp"}

// machineConfig is where the machine's npm has the configuration of all users.
func machineConfig() string {
	for _, file := range []string{os.Getenv("npm_config_globalconfig"), "/etc/npmrc", "/usr/local/etc/npmrc", "/usr/etc/npmrc"} {
		if _, err := os.Stat(file); file != "" && err == nil {
			return file
		}
	}
	return "/etc/npmrc"
}

// userConfig is where whoever runs the builder has his.
func userConfig() string {
	if file := os.Getenv("npm_config_userconfig"); file != "" {
		return file
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".npmrc")
}

// npmError is what npm says went wrong, in one sentence.
func npmError(out []byte, err error) error {
	var said struct {
		Error struct{ Code, Summary, Detail string }
	}
	if json.Unmarshal(out, &said) != nil || said.Error.Summary == "" {
		return fmt.Errorf("npm failed: %w (its log says more)", err)
	}
	summary, _, _ := strings.Cut(strings.TrimSpace(said.Error.Summary), "\n")
	switch code := said.Error.Code; code {
	case "E404":
		return fmt.Errorf("the registry has no such package: %s", summary)
	case "ETARGET":
		return noVersion{summary}
	case "EINTEGRITY":
		return fmt.Errorf("a tarball is not what the registry's own digest says, so nothing of it was unpacked: %s", summary)
	case "ERESOLVE":
		return fmt.Errorf("packages want versions of each other that exclude each other: %s", summary)
	case "EALLOWGIT", "EALLOWREMOTE", "EALLOWFILE", "EALLOWDIRECTORY":
		return refuse("a package comes from a URL, a repository or a directory, not from the registry: %s", summary)
	case "EAI_AGAIN", "ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT":
		return fmt.Errorf("the registry can't be reached, is npm set up for it on the builder's host (npm ping)? %s", summary)
	default:
		return fmt.Errorf("npm failed (%s): %s", cmp.Or(code, "no code"), summary)
	}
}

// noVersion means that the registry has no version in a range.
type noVersion struct{ summary string }

func (n noVersion) Error() string { return "the registry has no such version: " + n.summary }

// limited keeps the first bytes that are written to it.
type limited struct {
	io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.Writer.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
