package sets

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// thing is an entry of an archive that a test makes.
type thing struct {
	name, text string
	kind       byte // 0: a file
	mode       int64
	link       string
	pax        map[string]string
}

// archive makes an archive, as a builder does, and its digest.
func archive(t *testing.T, things ...thing) (set string, data []byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range things {
		h := &tar.Header{Name: x.name, Typeflag: x.kind, Mode: x.mode, Size: int64(len(x.text)), Linkname: x.link, ModTime: time.Unix(0, 0), Format: tar.FormatPAX, PAXRecords: x.pax}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, x.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return digest(b.Bytes()), b.Bytes()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Dir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unpack(t *testing.T, s *Store, set string, data []byte) {
	t.Helper()
	if err := s.Unpack(t.Context(), set, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// visible is all that is in the places that somebody may look at.
func visible(t *testing.T, s *Store) (all []string) {
	t.Helper()
	for _, d := range []string{"files", "sets", "recipes", "new"} {
		found, err := filepath.Glob(filepath.Join(s.dir, d, "*"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

var sample = []thing{
	{name: "node_modules/", kind: tar.TypeDir, mode: 0o755},
	{name: "node_modules/a/index.js", text: "module.exports = 1;"},
	{name: "node_modules/a/" + strings.Repeat("long/", 30) + "x.js", text: "far down"},
	{name: "node_modules/a/bin/tool", text: "#!/bin/sh\n", mode: 0o755},
	{name: "node_modules/a/empty"},
	{name: "node_modules/b/index.js", text: "module.exports = 1;"},
	{name: "package-lock.json", text: "{}"},
}

func TestASetIsWhatItsArchiveHolds(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := open(t)
	set, data := archive(t, sample...)
	unpack(t, s, set, data)
	tree := filepath.Join(Trees(s.dir), s.Name(set))
	for _, x := range sample {
		path := filepath.Join(tree, x.name)
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]os.FileMode{true: 0o444, false: 0o555}[x.mode == 0]
		if info.IsDir() {
			want = os.ModeDir | 0o755
		} else if got, _ := os.ReadFile(path); string(got) != x.text {
			t.Errorf("%s holds %q", x.name, got)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", x.name, info.Mode(), want)
		}
	}
	one, err1 := os.Stat(tree + "/node_modules/a/index.js")
	two, err2 := os.Stat(tree + "/node_modules/b/index.js")
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(one, two) {
		t.Errorf("equal files are two: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "new")); len(left) > 0 {
		t.Errorf("new/ still has %v", left)
	}
	var again bytes.Buffer
	if err := s.Write(&again, set); err != nil || !bytes.Equal(again.Bytes(), data) {
		t.Errorf("the archive made again has %d bytes and digest %s, want %d and %s: %v", again.Len(), digest(again.Bytes()), len(data), set, err)
	}
}

func TestEqualFilesOfSetsAreOne(t *testing.T) {
	s := open(t)
	first, data := archive(t, sample...)
	unpack(t, s, first, data)
	second, data := archive(t, append(sample[:len(sample):len(sample)], thing{name: "node_modules/c/index.js", text: "module.exports = 2;"})...)
	unpack(t, s, second, data)
	one, err1 := os.Stat(filepath.Join(s.tree(first), "node_modules/a/index.js"))
	two, err2 := os.Stat(filepath.Join(s.tree(second), "node_modules/b/index.js"))
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(one, two) {
		t.Errorf("equal files are two: %v", err)
	}
}

func TestWhatAnArchiveMayNotHold(t *testing.T) {
	for wrong, x := range map[string]thing{
		"below node_modules":   {name: "/node_modules/a.js"},
		"nor package-lock":     {name: "node_modules/../../a.js"},
		"the path \"../a.js\"": {name: "../a.js"},
		"the path \"etc/a\"":   {name: "etc/a"},
		"./node_modules":       {name: "./node_modules/a"},
		"is of type '2'":       {name: "node_modules/l", kind: tar.TypeSymlink, link: "/etc/passwd"},
		"is of type '1'":       {name: "node_modules/h", kind: tar.TypeLink, link: "node_modules/a"},
		"is of type '4'":       {name: "node_modules/d", kind: tar.TypeBlock},
		"is of type '3'":       {name: "node_modules/d", kind: tar.TypeChar},
		"is of type '6'":       {name: "node_modules/d", kind: tar.TypeFifo},
		"mode 4755":            {name: "node_modules/s", mode: 0o4755},
		"mode 2755":            {name: "node_modules/s", mode: 0o2755},
		"mode 1777":            {name: "node_modules/s/", kind: tar.TypeDir, mode: 0o1777},
		"the attribute":        {name: "node_modules/x", pax: map[string]string{"SCHILY.xattr.security.capability": "x"}},
		"and 65 names":         {name: "node_modules" + strings.Repeat("/a", 64)},
		"1313 bytes":           {name: "node_modules" + strings.Repeat("/"+strings.Repeat("a", 100), 12) + strings.Repeat("b", 89)},
		"a name of 256 bytes":  {name: "node_modules/" + strings.Repeat("a", 256)},
		"control characters":   {name: "node_modules/a\nb"},
	} {
		s := open(t)
		set, data := archive(t, append(sample[:len(sample):len(sample)], x)...)
		err := s.Unpack(t.Context(), set, bytes.NewReader(data))
		if err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: got %v, want one with %q", x.name, err, wrong)
		}
		if left := visible(t, s); len(left) > 0 {
			t.Errorf("%q leaves %v", x.name, left)
		}
	}
}

func TestAnArchiveThatIsTooLargeIsRefusedBeforeItIsRead(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "node_modules/big", Typeflag: tar.TypeReg, Mode: 0o644, Size: maxBytes + 1}); err != nil {
		t.Fatal(err)
	}
	s := open(t)
	err := s.Unpack(t.Context(), digest(b.Bytes()), &b)
	if err == nil || !strings.Contains(err.Error(), "more than 1024 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestTwoEntriesOfOneNameAreRefused(t *testing.T) {
	s := open(t)
	for _, twice := range [][]thing{
		{{name: "node_modules/a", text: "1"}, {name: "node_modules/a", text: "2"}},
		{{name: "node_modules/a", text: "1"}, {name: "node_modules/a/b", text: "2"}},
	} {
		set, data := archive(t, twice...)
		if err := s.Unpack(t.Context(), set, bytes.NewReader(data)); err == nil || s.Has(set) {
			t.Errorf("%v: got %v", twice, err)
		}
	}
}

func TestWhatIsNotTheArchiveLeavesNothing(t *testing.T) {
	set, data := archive(t, sample...)
	other, _ := archive(t, thing{name: "node_modules/x", text: "y"})
	flipped := bytes.Clone(data)
	flipped[bytes.Index(data, []byte("exports"))] ^= 1
	for what, c := range map[string]struct {
		set  string
		from io.Reader
	}{
		"another":           {other, bytes.NewReader(data)},
		"a bit is wrong":    {set, bytes.NewReader(flipped)},
		"cut short":         {set, bytes.NewReader(data[:len(data)/2])},
		"more at the end":   {set, io.MultiReader(bytes.NewReader(data), strings.NewReader("x"))},
		"without its end":   {set, bytes.NewReader(data[:len(data)-1024])},
		"no tar":            {set, strings.NewReader(strings.Repeat("x", 4096))},
		"no name of a set":  {"../../etc", bytes.NewReader(data)},
		"its source breaks": {set, io.MultiReader(bytes.NewReader(data[:2000]), broken{})},
	} {
		s := open(t)
		if err := s.Unpack(t.Context(), c.set, c.from); err == nil {
			t.Errorf("%s: it is taken", what)
		}
		if left := visible(t, s); len(left) > 0 {
			t.Errorf("%s: it leaves %v", what, left)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the other end has gone") }

func TestUnpackingEndsWithItsContext(t *testing.T) {
	s := open(t)
	set, data := archive(t, sample...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Unpack(ctx, set, bytes.NewReader(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestManyUnpackAtOnce(t *testing.T) {
	dir := Dir(t.TempDir())
	set, data := archive(t, sample...)
	var all sync.WaitGroup
	for range 8 { // each as if it were another process
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if err := s.Unpack(t.Context(), set, bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s, err := Open(dir)
	if err != nil || !s.Has(set) {
		t.Fatalf("it is not there: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "new")); len(left) > 0 {
		t.Errorf("new/ still has %v", left)
	}
}

func TestNamesSayNothing(t *testing.T) {
	set, _ := archive(t, sample...)
	a, b := open(t), open(t)
	if len(a.Name(set)) != nameDigits || a.Name(set) == b.Name(set) || strings.Contains(set, a.Name(set)) {
		t.Errorf("names are %s and %s", a.Name(set), b.Name(set))
	}
	again, err := Open(a.dir)
	if err != nil || again.Name(set) != a.Name(set) {
		t.Errorf("the name has changed: %v", err)
	}
	for path, mode := range map[string]os.FileMode{"secret": 0o600, "sets": os.ModeDir | 0o711, "files": os.ModeDir | 0o700, "recipes": os.ModeDir | 0o700, "new": os.ModeDir | 0o700} {
		if info, err := os.Stat(filepath.Join(a.dir, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s is %v: %v", path, info.Mode(), err)
		}
	}
}

func TestAFileThatIsBrokenInSizeIsReplaced(t *testing.T) {
	s := open(t)
	set, data := archive(t, sample...)
	sum := digest([]byte("module.exports = 1;"))
	if err := os.MkdirAll(filepath.Dir(s.file(sum, false)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file(sum, false), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	unpack(t, s, set, data)
	if got, err := os.ReadFile(filepath.Join(s.tree(set), "node_modules/a/index.js")); err != nil || len(got) == 0 {
		t.Errorf("it holds %q: %v", got, err)
	}
}
