package tally_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/internal/tally"
)

// addEnv has this binary add to a count, once for each byte that it is sent.
const addEnv = "BULKHEAD_TEST_TALLY"

func TestMain(m *testing.M) {
	if path := os.Getenv(addEnv); path != "" {
		for b := make([]byte, 1); ; {
			if n, _ := os.Stdin.Read(b); n == 0 {
				os.Exit(0)
			}
			if err := tally.Add(path, 1); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

func TestProcessesThatAddAtTheSameTimeLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "count")
	if _, err := tally.Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before anything was counted: %v", err)
	}
	const each = 200
	var work sync.WaitGroup
	for range 3 {
		work.Go(func() {
			add := exec.Command(os.Args[0])
			add.Env, add.Stdin = append(os.Environ(), addEnv+"="+path), strings.NewReader(strings.Repeat("x", each))
			if out, err := add.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	work.Wait()
	if n, err := tally.Read(path); n != 3*each || err != nil {
		t.Errorf("it counts %d %v, want %d", n, err, 3*each)
	}
	if all, err := os.ReadDir(filepath.Dir(path)); len(all) != 1 {
		t.Errorf("beside the count there is %v (%v)", all, err)
	}
}

func TestOnlyANumberInAFileIsACount(t *testing.T) {
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "count"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("42"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() error{
		"a link":           func() error { return os.Symlink(secret, path) },
		"a pipe":           func() error { return unix.Mkfifo(path, 0o600) },
		"a directory":      func() error { return os.Mkdir(path, 0o700) },
		"nothing":          func() error { return os.WriteFile(path, nil, 0o600) },
		"text":             func() error { return os.WriteFile(path, []byte("many"), 0o600) },
		"less than none":   func() error { return os.WriteFile(path, []byte("-1"), 0o600) },
		"another's number": func() error { return os.WriteFile(path, []byte("12\n34"), 0o600) },
		"too many":         func() error { return os.WriteFile(path, []byte(strconv.Itoa(tally.Most+1)), 0o600) },
		"without an end":   func() error { return os.WriteFile(path, []byte(strings.Repeat("0", 1<<20)), 0o600) },
	} {
		if err := errors.Join(os.RemoveAll(path), make()); err != nil {
			t.Fatal(err)
		}
		if n, err := tally.Read(path); n != 0 || err == nil {
			t.Errorf("%s is read as %d, %v", name, n, err)
		}
	}
}

func TestACountIsBegunAnewWhenItIsLostAndHasAnEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "count")
	for _, step := range []struct {
		file      string
		add, want int64
	}{{"torn", 2, 2}, {"7", 0, 7}, {strconv.Itoa(tally.Most - 1), 5, tally.Most}} {
		if err := os.WriteFile(path, []byte(step.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := tally.Add(path, step.add); err != nil {
			t.Fatal(err)
		}
		if n, err := tally.Read(path); n != step.want || err != nil {
			t.Errorf("%s and %d are %d (%v), want %d", step.file, step.add, n, err, step.want)
		}
	}
	if err := tally.Add(filepath.Join(path, "no", "directory"), 1); err == nil {
		t.Error("where there is no directory something is counted")
	}
}
