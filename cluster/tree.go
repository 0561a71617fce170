package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth is deeper than any valid value nests.
const maxDepth = 16

// node is a JSON value that still knows what encoding/json forgets: doubled
// keys, their order and which kind of value stood there.
type node struct {
	kind    string // object, list, text, number, true or false, null
	text    string // of a text or number, or true, false
	members []member
	items   []node
}

type member struct {
	name  string
	value node
}

// parseTree reads one JSON value that fits in size, or says in words where it
// stops being one.
func parseTree(data []byte, size Bytes) (node, *Problem) {
	if Bytes(len(data)) > size {
		return node{}, &Problem{Wrong: fmt.Sprintf("is %d bytes long", len(data)), Right: fmt.Sprintf("want at most %s", size)}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return node{}, &Problem{Wrong: "is empty", Right: "want a JSON object"}
	}
	if !utf8.Valid(data) {
		return node{}, &Problem{Wrong: at(data, badRune(data)) + ": is not UTF-8", Right: "want JSON in UTF-8"}
	}
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return node{}, syntaxProblem(data, err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n, err := readNode(d, 0)
	if err != nil {
		return node{}, &Problem{Wrong: err.Error(), Right: fmt.Sprintf("want at most %d levels", maxDepth)}
	}
	return n, nil
}

func syntaxProblem(data []byte, err error) *Problem {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return &Problem{Wrong: "is not JSON", Right: "want a JSON object"}
	}
	offset := int(syntax.Offset) - 1
	switch msg := syntax.Error(); {
	case strings.Contains(msg, "unexpected end"):
		return &Problem{Wrong: at(data, len(data)) + ": the JSON ends in the middle", Right: "is it cut off?"}
	case strings.Contains(msg, "after top-level value"):
		return &Problem{Wrong: at(data, offset) + ": something follows the end of the JSON", Right: "want one object and nothing after it"}
	default:
		return &Problem{Wrong: at(data, offset) + ": is not JSON: " + msg}
	}
}

// at is the offset as an editor shows it.
func at(data []byte, offset int) string {
	before := data[:max(0, min(offset, len(data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d:%d", line, column)
}

func badRune(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}

// readNode builds the tree of what is already known to be valid JSON.
func readNode(d *json.Decoder, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, errors.New("nests too deep")
	}
	token, err := d.Token()
	if err != nil {
		return node{}, err
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return readObject(d, depth)
		}
		return readList(d, depth)
	case string:
		return node{kind: "text", text: v}, nil
	case json.Number:
		return node{kind: "number", text: v.String()}, nil
	case bool:
		return node{kind: "true or false", text: fmt.Sprint(v)}, nil
	default:
		return node{kind: "null"}, nil
	}
}

func readObject(d *json.Decoder, depth int) (node, error) {
	n := node{kind: "object"}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return n, err
		}
		value, err := readNode(d, depth+1)
		if err != nil {
			return n, err
		}
		n.members = append(n.members, member{name.(string), value})
	}
	_, err := d.Token()
	return n, err
}

func readList(d *json.Decoder, depth int) (node, error) {
	n := node{kind: "list"}
	for d.More() {
		item, err := readNode(d, depth+1)
		if err != nil {
			return n, err
		}
		n.items = append(n.items, item)
	}
	_, err := d.Token()
	return n, err
}
