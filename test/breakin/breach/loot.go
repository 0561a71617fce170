package breach

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryKey and memorySize name a segment of System V shared memory that
// everybody may attach.
const memoryKey, memorySize = 0x6f0b, 4096

// Keep is somebody on the host who has something to lose: it says the secret
// on each of the sockets above and on one with a path, which everybody may
// connect to, and has it in shared memory. It calls ready once all of that is
// there, and does not return.
func Keep(secret, path string, ready func()) error {
	for _, at := range [][2]string{{"tcp", TCP}, {"tcp", Metadata}, {"unix", Abstract}, {"unix", path}} {
		ln, err := net.Listen(at[0], at[1])
		if err != nil {
			return fmt.Errorf("cannot keep the loot: %w", err)
		}
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.Write([]byte(secret))
				c.Close()
			}
		}()
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return fmt.Errorf("cannot keep the loot: %w", err)
	}
	packets, err := net.ListenPacket("udp", UDP)
	if err != nil {
		return fmt.Errorf("cannot keep the loot: %w", err)
	}
	memory, err := attach(unix.IPC_CREAT | 0o666)
	if err != nil {
		return fmt.Errorf("cannot keep the loot in shared memory: %w", err)
	}
	copy(memory, secret)
	ready()
	for {
		_, from, err := packets.ReadFrom(make([]byte, 16))
		if err != nil {
			return fmt.Errorf("cannot keep the loot: %w", err)
		}
		packets.WriteTo([]byte(secret), from)
	}
}

func attach(flags int) ([]byte, error) {
	id, err := unix.SysvShmGet(memoryKey, memorySize, flags)
	if err != nil {
		return nil, err
	}
	return unix.SysvShmAttach(id, 0, 0)
}

func sharedMemory(o *Orders) error {
	memory, err := attach(0)
	if err != nil {
		return err
	}
	defer unix.SysvShmDetach(memory)
	if !strings.Contains(string(memory), o.Secret) {
		return errEmpty
	}
	return nil
}
