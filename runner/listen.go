package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/handover"
)

// Listener returns the socket that systemd, or the agent's supervisor, has
// handed us (sd_listen_fds(3)).
func Listener() (net.Listener, error) {
	listeners, err := handover.Listeners()
	if err != nil {
		return nil, err
	}
	if len(listeners) != 1 {
		return nil, fmt.Errorf("want one listening unix socket by LISTEN_FDS, got %d: a runner is started by its socket unit", len(listeners))
	}
	return listeners[0], nil
}

// Credential reads the runner's configuration: the file "tenant" in
// $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=), or the inherited
// descriptor that BULKHEAD_CREDENTIAL_FDS="tenant=N" names. Keys never travel
// in the environment or on the command line.
func Credential() (c cluster.RunnerConfig, err error) {
	data, err := readCredential("tenant")
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && c.Tenant == "" {
		err = errors.New("it names no tenant")
	}
	if err != nil {
		return c, fmt.Errorf("cannot read credential %q: %w", "tenant", err)
	}
	return c, nil
}

func readCredential(name string) ([]byte, error) {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		return os.ReadFile(filepath.Join(dir, name))
	}
	for pair := range strings.SplitSeq(os.Getenv("BULKHEAD_CREDENTIAL_FDS"), ",") {
		got, num, _ := strings.Cut(pair, "=")
		fd, err := strconv.Atoi(num)
		if got != name || err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		return io.ReadAll(f)
	}
	return nil, errors.New("neither CREDENTIALS_DIRECTORY nor BULKHEAD_CREDENTIAL_FDS names it")
}
