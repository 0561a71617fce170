package fleetlock

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// zincati is the application by whose ID a machine calls itself: Zincati's own
// (sd_id128_get_machine_app_specific(3)).
const zincati = "de35106b6ec24688b63afddaa156679b"

// MachineID is by which name Zincati on this machine asks for its turn: what
// machine-id(5) makes of the file /etc/machine-id, never that itself.
func MachineID(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot tell this machine's ID: %w", err)
	}
	machine, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(machine) != 16 {
		return "", fmt.Errorf("cannot tell this machine's ID: %s holds no 32 hexadecimal digits", file)
	}
	return appSpecific(machine), nil
}

// appSpecific is an ID from which the machine's cannot be told: a keyed hash,
// dressed up as a UUID of version 4 (RFC 9562).
func appSpecific(machine []byte) string {
	app, _ := hex.DecodeString(zincati)
	mac := hmac.New(sha256.New, machine)
	mac.Write(app)
	id := mac.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id)
}
