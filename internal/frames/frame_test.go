package frames

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

type vector struct {
	Name  string
	Hex   string
	Why   string
	Frame struct {
		Type, Role, Reason, Method, Target, Body, Data string
		End                                            bool
		Stream                                         uint32
		Code, Credit, Status                           int
		Fields                                         [][2]any
		Headers                                        [][2]string
	}
}

func readVectors(t testing.TB) (good, bad []vector) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Frames, Bad []vector }
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Frames) == 0 || len(v.Bad) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v.Frames, v.Bad
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

func TestVectorsDecodeAndEncode(t *testing.T) {
	good, _ := readVectors(t)
	for _, v := range good {
		t.Run(v.Name, func(t *testing.T) {
			raw := unhex(t, v.Hex)
			f, n, err := Parse(raw)
			if err != nil || n != len(raw) {
				t.Fatalf("Parse took %d of %d bytes: %v", n, len(raw), err)
			}
			if f.Type.String() != v.Frame.Type || f.End != v.Frame.End || f.Stream != v.Frame.Stream {
				t.Fatalf("got %v end=%v stream=%d", f.Type, f.End, f.Stream)
			}
			payload := checkPayload(t, f, v)
			if got := Append(nil, Frame{Type: f.Type, End: f.End, Stream: f.Stream, Payload: payload}); !bytes.Equal(got, raw) {
				t.Fatalf("encoded again:\n%x\nwant\n%x", got, raw)
			}
		})
	}
}

// checkPayload compares what was decoded and returns the payload encoded anew.
func checkPayload(t *testing.T, f Frame, v vector) []byte {
	t.Helper()
	switch f.Type {
	case TypeHello:
		role, err := ParseHello(f.Payload)
		if err != nil || role != v.Frame.Role {
			t.Fatalf("role %q: %v", role, err)
		}
		return AppendHello(nil, role)[HeaderSize:]
	case TypeRequest:
		r, err := ParseRequest(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Method) != v.Frame.Method || latin1(r.Target) != v.Frame.Target || hex.EncodeToString(r.Body) != v.Frame.Body {
			t.Fatalf("got %s %q body %x", r.Method, r.Target, r.Body)
		}
		r.Fields, r.Headers = copyFields(t, r.Fields, v), copyHeaders(t, r.Headers, v)
		return append(r.AppendHead(nil), r.Body...)
	case TypeResponse:
		r, err := ParseResponse(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status != v.Frame.Status || hex.EncodeToString(r.Body) != v.Frame.Body {
			t.Fatalf("got %d body %x", r.Status, r.Body)
		}
		r.Fields, r.Headers = copyFields(t, r.Fields, v), copyHeaders(t, r.Headers, v)
		return append(r.AppendHead(nil), r.Body...)
	case TypeTrailers:
		h, err := ParseTrailers(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return AppendTrailers(nil, f.Stream, copyHeaders(t, h, v))[HeaderSize:]
	case TypeReset:
		code, reason := ParseReset(f.Payload)
		if int(code) != v.Frame.Code || reason != v.Frame.Reason {
			t.Fatalf("got code %d %q", code, reason)
		}
		return AppendReset(nil, f.Stream, code, reason)[HeaderSize:]
	case TypeWindow:
		return AppendWindow(nil, f.Stream, ParseWindow(f.Payload))[HeaderSize:]
	}
	return f.Payload
}

func copyFields(t *testing.T, f Fields, v vector) Fields {
	t.Helper()
	out, i := append([]byte{}, NoFields...), 0
	for id, value := range f.All() {
		want := v.Frame.Fields[i]
		if float64(id) != want[0].(float64) || hex.EncodeToString(value) != want[1].(string) {
			t.Fatalf("field %d is %d %x, want %v", i, id, value, want)
		}
		out, i = AppendField(out, 0, id, value), i+1
	}
	if i != len(v.Frame.Fields) {
		t.Fatalf("%d fields, want %d", i, len(v.Frame.Fields))
	}
	return out
}

func copyHeaders(t *testing.T, h Headers, v vector) Headers {
	t.Helper()
	out, i := AppendHeaderCount(nil), 0
	for name, value := range h.All() {
		want := v.Frame.Headers[i]
		if string(name) != want[0] || latin1(value) != want[1] {
			t.Fatalf("header %d is %s: %q, want %v", i, name, value, want)
		}
		out, i = AppendHeaderLine(out, 0, name, value), i+1
	}
	if i != len(v.Frame.Headers) {
		t.Fatalf("%d headers, want %d", i, len(v.Frame.Headers))
	}
	return out
}

// decode says whether a receiver accepts these bytes, as Conn and Client do.
func decode(b []byte) error {
	f, n, err := Parse(b)
	if err != nil || n == 0 {
		return err
	}
	switch f.Type {
	case TypeHello:
		_, err = ParseHello(f.Payload)
	case TypeRequest:
		_, err = ParseRequest(f.Payload)
	case TypeResponse:
		_, err = ParseResponse(f.Payload)
	case TypeTrailers:
		_, err = ParseTrailers(f.Payload)
	}
	return err
}

func TestBadVectorsAreRefused(t *testing.T) {
	_, bad := readVectors(t)
	for _, v := range bad {
		if decode(unhex(t, v.Hex)) == nil {
			t.Errorf("%s (%s) was accepted", v.Name, v.Why)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, bad := readVectors(f)
	for _, v := range append(good, bad...) {
		f.Add(unhex(f, v.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if decode(b) != nil {
			return
		}
		fr, n, _ := Parse(b)
		if n == 0 {
			return
		}
		if got := Append(nil, fr); !bytes.Equal(got, b[:n]) {
			t.Fatalf("%x encodes as %x", b[:n], got)
		}
		if fr.Type == TypeRequest {
			r, _ := ParseRequest(fr.Payload)
			if got := append(r.AppendHead(nil), r.Body...); !bytes.Equal(got, fr.Payload) {
				t.Fatalf("request %x encodes as %x", fr.Payload, got)
			}
		}
	})
}
