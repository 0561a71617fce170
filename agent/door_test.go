package agent

import (
	"log/slog"
	"path/filepath"
	"testing"

	"bulkhead/internal/waking"
)

func TestNextRunnerIsHandedWhatTheLastOneWrote(t *testing.T) {
	d := &door{instance: "acme.0", used: filepath.Join(t.TempDir(), "used.json"), log: slog.New(slog.DiscardHandler)}
	ask := func() (string, func(string)) {
		answer, files := d.answer(t.Context(), waking.Ask{Op: waking.Book})
		if answer.Error != "" || len(files) != 1 {
			t.Fatalf("got %+v and %d files", answer, len(files))
		}
		t.Cleanup(func() { waking.Close(files) })
		b := make([]byte, 100)
		n, _ := files[0].ReadAt(b, 0)
		return string(b[:n]), func(text string) {
			if _, err := files[0].WriteAt([]byte(text), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, write := ask()
	if first != "" {
		t.Errorf("the first is handed %q", first)
	}
	write("42")
	if next, _ := ask(); next != "42" {
		t.Errorf("the next is handed %q", next)
	}
	d.used = filepath.Join(t.TempDir(), "missing", "used.json")
	if answer, files := d.answer(t.Context(), waking.Ask{Op: waking.Book}); answer.Error == "" || len(files) != 0 {
		t.Errorf("without a file to give it answers %+v and %d files", answer, len(files))
	}
}
