package butane

import (
	"bytes"
	"fmt"
)

// Render returns a host's Butane configuration. It holds the host's keys.
func Render(in Input) ([]byte, error) {
	h, err := newHost(in)
	if err != nil {
		return nil, fmt.Errorf("cannot render host %s: %w", in.Host.Name, err)
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, "host.bu", h); err != nil {
		return nil, fmt.Errorf("cannot render host %s: %w", in.Host.Name, err)
	}
	return b.Bytes(), nil
}
