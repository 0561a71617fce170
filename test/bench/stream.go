package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// streamed is how much goes through each stream, and streamCounts how many
// there are at a time.
const streamed = 128 << 20

var streamCounts = []int{1, 8}

func streamKey(name string, n int) string { return fmt.Sprintf("%s/%d", name, n) }

// letters is an endless body without a length, in the size of a pipe's pieces.
type letters struct{ left int }

func (l *letters) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), l.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	l.left -= n
	return n, nil
}

// stream sends to an echo and reads what comes back meanwhile, n times at
// once, and returns MB/s each way.
func stream(ctx context.Context, t target, n int) (float64, error) {
	var work sync.WaitGroup
	failed := make(chan error, n)
	begun := time.Now()
	for range n {
		work.Go(func() {
			if err := t.echo(ctx, streamed/n); err != nil {
				failed <- fmt.Errorf("%s, a stream of %d: %w", t.name, n, err)
			}
		})
	}
	work.Wait()
	took := time.Since(begun)
	select {
	case err := <-failed:
		return 0, err
	default:
		return streamed / 1e6 / took.Seconds(), nil
	}
}

func (t target) echo(ctx context.Context, size int) error {
	req, err := http.NewRequestWithContext(ctx, "POST", t.at("echo"), &letters{size})
	if err != nil {
		return err
	}
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != 200 || n != int64(size)) {
		err = fmt.Errorf("status %d, %d of %d bytes came back", resp.StatusCode, n, size)
	}
	return err
}

func printStreams(names []string, rates map[string][]float64) {
	t := newTable("Streaming both ways at once, MB/s each way", "", "1 stream", "share of bare", "8 streams", "share of bare")
	for _, name := range names {
		cells := []string{name}
		for _, n := range streamCounts {
			mine, base := rates[streamKey(name, n)], rates[streamKey(names[0], n)]
			shares := make([]float64, len(mine))
			for i := range mine {
				shares[i] = mine[i] / base[i]
			}
			cells = append(cells, whole(median(mine)), spread(shares, ratio))
		}
		t.row(cells...)
	}
}
