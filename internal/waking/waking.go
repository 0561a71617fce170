// Package waking holds what a runner and its host's agent tell each other over
// the socket that the agent keeps in each runner's jail: the runner wants its
// cell, wants to sleep, or says how busy it is. Messages are JSON, one a packet
// (unix(7), SOCK_SEQPACKET); an answer may carry open files.
package waking

import (
	"encoding/json"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Socket is the name of the socket in the directory that the jail shows as
// /agent.
const Socket = "wake.sock"

// Ops of an Ask.
const (
	Wake  = "wake"  // I want my cell
	Sleep = "sleep" // I have been idle and take no more requests: my cell can go
	Book  = "book"  // I want the file in which I keep what was used of quotas
	Load  = "load"  // so many requests are in flight; has no answer
)

// Ask is what a runner sends.
type Ask struct {
	Op   string  `json:"op"`
	Load float64 `json:"load,omitempty"` // on average, since the last time
}

// Answer is what it gets. After Wake two files come with it, unless Error says
// why not: the cell's directory as a mount of its own, and the file to write
// Freeze or Thaw to. After Book one file comes, to read and to write. Without having been asked, the agent may send an answer
// with Idle: the host is short of memory, sleep if you are idle.
type Answer struct {
	Error  string `json:"error,omitempty"`
	After  int64  `json:"after,omitempty"` // milliseconds, when it is worth asking again
	Freeze string `json:"freeze,omitempty"`
	Thaw   string `json:"thaw,omitempty"`
	Idle   bool   `json:"idle,omitempty"`
}

// maxMessage bounds a packet, in bytes, and maxFiles what comes with it.
const (
	maxMessage = 4096
	maxFiles   = 2
)

// Send sends a message and files. The files stay the caller's to close.
func Send(c *net.UnixConn, message any, files ...*os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("cannot send: %w", err)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(data, rights, nil); err != nil {
		return fmt.Errorf("cannot send: %w", err)
	}
	return nil
}

// Receive reads the next message, and the files that came with it, which are
// the caller's to close.
func Receive(c *net.UnixConn, message any) ([]*os.File, error) {
	data, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := c.ReadMsgUnix(data, oob)
	if err != nil {
		return nil, fmt.Errorf("cannot receive: %w", err)
	}
	files, err := rights(oob[:oobn])
	if err == nil {
		err = json.Unmarshal(data[:n], message)
	}
	if err != nil {
		Close(files)
		return nil, fmt.Errorf("cannot receive: %w", err)
	}
	return files, nil
}

func rights(oob []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		fds, e := unix.ParseUnixRights(&m)
		if e != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, err
}

// Close closes files.
func Close(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
