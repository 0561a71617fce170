package butane

import (
	"fmt"

	"github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
)

// Ignition translates a Butane configuration into Ignition's JSON. Whatever
// Butane has to say of it is an error: it takes unknown keys for mere
// warnings, and a machine boots only once with its first configuration.
func Ignition(butane []byte) ([]byte, error) {
	out, report, err := config.TranslateBytes(butane, common.TranslateBytesOptions{Pretty: true})
	if err != nil {
		return nil, fmt.Errorf("cannot make Ignition of Butane: %w: %s", err, report.String())
	}
	if len(report.Entries) > 0 {
		return nil, fmt.Errorf("cannot make Ignition of Butane: %s", report.String())
	}
	return append(out, '\n'), nil
}
