package cell

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds of a line.
const (
	maxLine    = 16 << 10  // of the log, with its newline
	maxRaw     = 128 << 10 // from a process
	maxMessage = 12 << 10
)

// entry is one line of the container's log (docs/cell.md).
type entry struct {
	Time     string `json:"time"`
	Function string `json:"function,omitempty"`
	Version  string `json:"version,omitempty"`
	Request  string `json:"request,omitempty"`
	Level    string `json:"level"`
	Message  string `json:"message"`
}

// line is e as a JSON line of at most maxLine bytes.
func (e entry) line() []byte {
	b := e.encode()
	if len(b) > maxLine { // escapes can make a character six times as long
		e.Message = cut(e.Message, maxMessage/6)
		b = e.encode()
	}
	return b
}

func (e entry) encode() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(e) // strings only: it can't fail
	return b.Bytes()
}

// cut shortens s to at most n bytes and says so.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:n], len(s))
}

// parseLine makes an entry of what a process printed. The harness marks its
// records with a record separator; anything else is a message of the given
// level. Records can be forged by the code, so only its own words are taken
// from them: never the level "platform".
func parseLine(line []byte, level string) entry {
	var rec struct {
		L string `json:"l"`
		M string `json:"m"`
		R string `json:"r"`
	}
	if rest, ok := bytes.CutPrefix(line, []byte{0x1e}); ok && json.Unmarshal(rest, &rec) == nil {
		switch rec.L {
		case "info", "warn", "error", "debug":
			level = rec.L
		}
		return entry{Level: level, Request: cut(rec.R, 128), Message: cut(rec.M, maxMessage)}
	}
	return entry{Level: level, Message: cut(strings.ToValidUTF8(string(line), "\uFFFD"), maxMessage)}
}

// readLines calls each with every line of r without its newline, until r ends.
// Of a line longer than maxRaw it passes on the beginning.
func readLines(r io.Reader, each func([]byte)) {
	br := bufio.NewReaderSize(r, 16<<10)
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxRaw-min(len(line), maxRaw))]...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 {
			each(line)
		}
		line = line[:0]
		if err != nil {
			return
		}
	}
}
