package attack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"bulkhead/cluster"
)

const (
	rotations = 50 // keys that replace one another
	clients   = 8
)

// era is a key's time: it is taken from before it is the current one until
// after it has been taken back.
type era struct {
	token string
	phase atomic.Int32
}

// Phases of a key.
const (
	unknown = iota
	coming
	known
	leaving
	revoked
)

func newEra(i int) (*era, cluster.Key) {
	k := cluster.Key{KID: fmt.Sprintf("k%d", i), Alg: "HS256", Secret: fmt.Sprintf("the secret of key %20d....", i)}
	return &era{token: token(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, k.KID), good, hs(k.Secret))}, k
}

// ask sends a request with the era's token and says what is wrong with the
// answer. Only what holds from before the request until after its answer
// counts.
func (e *era) ask(c net.Conn, r *bufio.Reader) error {
	before := e.phase.Load()
	if _, err := io.WriteString(c, "GET /acme/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+e.token+"\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	after := e.phase.Load()
	switch {
	case resp.StatusCode != 200 && resp.StatusCode != 403:
		return fmt.Errorf("got %d", resp.StatusCode)
	case resp.StatusCode == 200 && (after == unknown || before == revoked):
		return fmt.Errorf("accepted in phase %d to %d", before, after)
	case resp.StatusCode == 403 && before == known && after == known:
		return errors.New("refused, although it is known")
	}
	return nil
}

// Keys are exchanged as docs/tokens.md says: the new one beside the old, then
// without the old. All the time clients use the last, the current and the next
// key's tokens.
func TestKeysAreExchangedUnderLoad(t *testing.T) {
	s := newSite(t)
	eras, keys := make([]*era, rotations+2), make([]cluster.Key, rotations+2)
	for i := range eras {
		eras[i], keys[i] = newEra(i)
	}
	reload := func(keys ...cluster.Key) {
		if err := s.acme.reload(append(s.keys.acme(), keys...)); err != nil {
			t.Fatal(err)
		}
	}
	reload(keys[0])
	eras[0].phase.Store(known)
	var current, asked atomic.Int64
	var work sync.WaitGroup
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop); work.Wait() })
	defer end()
	for i := range clients {
		c := s.dial(t)
		work.Go(func() {
			r := bufio.NewReader(c)
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				at := max(0, int(current.Load())+n%3-1)
				if err := eras[at].ask(c, r); err != nil {
					t.Errorf("key %d: %v", at, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range rotations {
		eras[i+1].phase.Store(coming)
		reload(keys[i], keys[i+1])
		eras[i+1].phase.Store(known)
		current.Store(int64(i + 1))
		eras[i].phase.Store(leaving)
		reload(keys[i+1])
		eras[i].phase.Store(revoked)
		for from := asked.Load(); asked.Load() < from+4*clients && !t.Failed(); {
			if t.Context().Err() != nil {
				t.Fatal("no requests are answered")
			}
		}
	}
	end()
	s.unharmed(t)
	compare(t, "rotation", []row{{
		fmt.Sprintf("%d keys replace one another, each beside the last one and then without it, while %d clients use the last, the current and the next one's tokens without a pause", rotations, clients),
		"0 tokens are accepted whose key is not known yet or taken back, 0 are refused whose key is known",
	}})
}
