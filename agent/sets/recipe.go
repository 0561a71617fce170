package sets

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// part is some of an archive: what is before a file's contents, and the file's
// digest in their place. A recipe is a list of parts.
type part struct {
	Raw  []byte `json:"raw,omitempty"`
	Name string `json:"name,omitempty"` // path of the file or directory; empty: the archive ends
	Sum  string `json:"sum,omitempty"`  // SHA-256 of its contents, in hex; empty: it is a directory
	Size int64  `json:"size,omitempty"`
	Exec bool   `json:"exec,omitempty"`
}

// recipeWriter writes a recipe to a file.
type recipeWriter struct {
	file *os.File
	zip  *gzip.Writer
	json *json.Encoder
}

func createRecipe(path string) (*recipeWriter, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	z := gzip.NewWriter(f)
	return &recipeWriter{f, z, json.NewEncoder(z)}, nil
}

func (w *recipeWriter) write(p part) error { return w.json.Encode(p) }

func (w *recipeWriter) close() error { return errors.Join(w.zip.Close(), w.file.Close()) }

// parts reads a recipe.
func parts(path string) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(part{}, err)
			return
		}
		defer f.Close()
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			yield(part{}, fmt.Errorf("cannot read recipe %s: %w", path, err))
			return
		}
		for d := json.NewDecoder(z); ; {
			var p part
			err := d.Decode(&p)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = fmt.Errorf("cannot read recipe %s: %w", path, err)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// Write writes a set's archive, made again of its files: the same bytes, unless a
// file is broken, which whoever reads it finds by the digest.
func (s *Store) Write(w io.Writer, set string) error {
	for p, err := range parts(s.recipe(set)) {
		if err == nil {
			_, err = w.Write(p.Raw)
		}
		if err == nil && p.Sum != "" {
			err = s.writeFile(w, p)
		}
		if err != nil {
			return fmt.Errorf("cannot make the archive of set %s again: %w", set, err)
		}
	}
	return nil
}

func (s *Store) writeFile(w io.Writer, p part) error {
	f, err := os.Open(s.file(p.Sum, p.Exec))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(w, f, p.Size)
	return err
}
