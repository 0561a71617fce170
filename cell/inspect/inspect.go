// Package inspect breaks into a Node process that does not come back from its
// own code: over Node's inspector it finds out where that code is and in whose
// request's turn, and ends the turn. The rest of the process goes on.
//
// It is the smallest client of the Chrome DevTools Protocol that does this:
// one connection, used by one goroutine, within one deadline. The process is
// hostile, so every answer is bounded in size and number, and nothing in it is
// used but texts that are cut and cleaned.
package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"time"
)

const (
	maxMessages = 20_000 // from one process
	maxAsked    = 4      // frames of one pause that are asked for the request
)

// listening is what Node prints, with --inspect-publish-uid=stderr, when its
// inspector has opened on the loopback. The path is a random UUID.
var listening = regexp.MustCompile(`^Debugger listening on ws://(127\.0\.0\.1:[0-9]{1,5})(/[0-9a-f-]{36})$`)

// chatter is what else it prints about it.
var chatter = regexp.MustCompile(`^(For help, see: https://nodejs\.org/|Debugger attached\.$|Debugger ending on ws://127\.0\.0\.1:|Waiting for the debugger to disconnect\.\.\.$|Starting inspector on 127\.0\.0\.1:)`)

// Address is where a process's inspector listens.
type Address struct{ Host, Path string }

// ParseLine reads a line of a process's stderr: the address, when it tells one,
// and whether the line is Node's about its inspector at all.
func ParseLine(line []byte) (a Address, about bool) {
	if m := listening.FindSubmatch(line); m != nil {
		return Address{string(m[1]), string(m[2])}, true
	}
	return Address{}, chatter.Match(line)
}

// Sight is what was seen in one pause.
type Sight struct {
	Request string // id; empty: can't be told
	Where   string // file:line:column of the tenant's own code; empty: none is running
	In      string // the function that is there
}

// Session is a debugger in a process. It is not for concurrent use.
type Session struct {
	ws    *socket
	eye   string
	asked int               // commands sent
	heard int               // messages received
	files map[string]string // of the tenant's scripts, by their ids
}

// Attach connects to a process's inspector and asks it to pause. Eye is the
// process's hidden function that tells the request (docs/cell.md); empty: it
// has none. Everything has to be done by the deadline, or by that of Extend.
func Attach(a Address, eye string, deadline time.Time) (*Session, error) {
	if _, port, err := net.SplitHostPort(a.Host); err != nil || port == "0" {
		return nil, fmt.Errorf("cannot attach to %q", a.Host)
	}
	ws, err := dial(a.Host, a.Path, deadline)
	if err != nil {
		return nil, err
	}
	s := &Session{ws: ws, eye: eye, files: map[string]string{}}
	if err := ws.send(s.command("Debugger.enable", nil), s.command("Debugger.pause", nil)); err != nil {
		ws.close()
		return nil, fmt.Errorf("cannot ask for a pause: %w", err)
	}
	return s, nil
}

// Extend sets another deadline.
func (s *Session) Extend(deadline time.Time) { s.ws.c.SetDeadline(deadline) }

// Close lets go of the process, which runs on if it was paused.
func (s *Session) Close() { s.ws.close() }

// Look waits for the pause that was asked for and tells what is seen in it.
// The process stays paused.
func (s *Session) Look() (Sight, error) {
	var frames []frame
	err := s.await(func(m message) bool {
		if m.Method == "Debugger.paused" {
			frames = parseFrames(m.Params)
		}
		return m.Method == "Debugger.paused"
	})
	if err != nil {
		return Sight{}, fmt.Errorf("cannot pause the process: %w", err)
	}
	sight := s.place(frames)
	sight.Request, err = s.who(frames)
	return sight, err
}

// Again lets the process run for a moment and asks it to pause.
func (s *Session) Again(moment time.Duration) error {
	if err := s.ws.send(s.command("Debugger.resume", nil)); err != nil {
		return err
	}
	time.Sleep(moment)
	return s.Pause()
}

// Pause asks a process that runs to pause.
func (s *Session) Pause() error { return s.ws.send(s.command("Debugger.pause", nil)) }

// Step lets the process run until it enters the next statement, which may be
// of a function that is only now called.
func (s *Session) Step() error { return s.ws.send(s.command("Debugger.stepInto", nil)) }

// Terminate ends the turn that the process is paused in, by an exception that
// no code can catch, and lets the process go on with its next one.
func (s *Session) Terminate() error {
	err := s.ws.send(s.command("Runtime.terminateExecution", nil), s.command("Debugger.resume", map[string]any{"terminateOnResume": true}))
	if err != nil {
		return fmt.Errorf("cannot end the turn: %w", err)
	}
	last := s.asked
	if err := s.await(func(m message) bool { return m.ID == last }); err != nil {
		return fmt.Errorf("cannot end the turn: %w", err)
	}
	return nil
}

// who asks a paused process in whose turn it is. A frame may be in a context
// of its own (node:vm), where the eye is not: then the next is asked.
func (s *Session) who(frames []frame) (string, error) {
	if s.eye == "" {
		return "", nil
	}
	for _, f := range askable(frames) {
		expression := "globalThis[" + strconv.Quote(s.eye) + "]()"
		err := s.ws.send(s.command("Debugger.evaluateOnCallFrame", map[string]any{"callFrameId": f.ID, "expression": expression, "silent": true, "returnByValue": true}))
		if err != nil {
			return "", err
		}
		var id string
		last := s.asked
		err = s.await(func(m message) bool {
			if m.ID == last {
				id = m.text()
			}
			return m.ID == last
		})
		if err != nil || id != "" {
			return id, err
		}
	}
	return "", nil
}

// message is what the inspector says: an event, or the answer to a command.
type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
}

// text is the string that an expression gave, if it gave one.
func (m message) text() string {
	var r struct {
		Result struct {
			Type  string `json:"type"`
			Value any    `json:"value"`
		} `json:"result"`
		Thrown json.RawMessage `json:"exceptionDetails"`
	}
	if json.Unmarshal(m.Result, &r) != nil || r.Thrown != nil {
		return ""
	}
	text, _ := r.Result.Value.(string)
	return Clean(text, 128)
}

// command encodes the next command.
func (s *Session) command(method string, params map[string]any) []byte {
	s.asked++
	m := map[string]any{"id": s.asked, "method": method}
	if params != nil {
		m["params"] = params
	}
	b, _ := json.Marshal(m) // texts and flags: it can't fail
	return b
}

// await reads messages until one is wanted.
func (s *Session) await(wanted func(message) bool) error {
	for ; s.heard < maxMessages; s.heard++ {
		b, err := s.ws.next()
		if err != nil {
			return err
		}
		m := parseMessage(b)
		if m.Method == "Debugger.scriptParsed" {
			s.parsed(m.Params)
		}
		if wanted(m) {
			return nil
		}
	}
	return errors.New("the process says too much")
}
