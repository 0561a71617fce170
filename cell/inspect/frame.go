package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxFrames = 64 // of a stack, from the top
	maxName   = 128
	// maxScripts of the tenant's: he may have many modules, or make code up.
	maxScripts = 1024
)

// userDir is where a tenant's code lies, as its process sees it.
const userDir = "/function/"

// frame is one call of a paused process.
type frame struct {
	ID       string `json:"callFrameId"`
	Function string `json:"functionName"`
	Location struct {
		Script string `json:"scriptId"`
		Line   int    `json:"lineNumber"` // from 0
		Column int    `json:"columnNumber"`
	} `json:"location"`
}

// parsed hears of a script. The tenant's own are kept: frames name their
// scripts by id.
func (s *Session) parsed(params []byte) {
	var script struct {
		ID  string `json:"scriptId"`
		URL string `json:"url"`
	}
	if json.Unmarshal(params, &script) != nil || len(s.files) >= maxScripts {
		return
	}
	if url := strings.TrimPrefix(script.URL, "file://"); strings.HasPrefix(url, userDir) {
		s.files[script.ID] = path.Base(url)
	}
}

// place is where the tenant's code is: the innermost frame that is his.
func (s *Session) place(frames []frame) Sight {
	for _, f := range frames {
		if file := s.files[f.Location.Script]; file != "" {
			where := fmt.Sprintf("%s:%d:%d", Clean(file, maxName), f.Location.Line+1, f.Location.Column+1)
			return Sight{Where: where, In: Clean(f.Function, maxName)}
		}
	}
	return Sight{}
}

// askable are the frames worth asking for the request, best first: the top,
// and then those further down, which may be in another context.
func askable(frames []frame) []frame {
	if len(frames) <= maxAsked {
		return frames
	}
	return append(frames[:maxAsked-1:maxAsked-1], frames[len(frames)-1])
}

// parseMessage reads a message that may be cut off. Of one that is, only the
// frames that came whole are left.
func parseMessage(b []byte) message {
	var m message
	if json.Unmarshal(b, &m) == nil || !bytes.HasPrefix(b, []byte(`{"method":"Debugger.paused"`)) {
		return m
	}
	_, params, _ := bytes.Cut(b, []byte(`"params":`))
	return message{Method: "Debugger.paused", Params: params}
}

// parseFrames reads the frames of a pause, from the top, as many as are whole.
func parseFrames(params []byte) []frame {
	_, list, _ := bytes.Cut(params, []byte(`"callFrames":`))
	d := json.NewDecoder(bytes.NewReader(list))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil
	}
	var all []frame
	for d.More() && len(all) < maxFrames {
		var f frame
		if d.Decode(&f) != nil {
			break
		}
		all = append(all, f)
	}
	return all
}

// Clean makes a text of a process's fit to be shown: printable, and at most n
// bytes of it.
func Clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s[:min(len(s), 4*n)])
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
