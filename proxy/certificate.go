package proxy

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// lookAtFiles is how often, at most, certificate files are looked at: when
// somebody connects.
const lookAtFiles = time.Second

// pair is a certificate and its key in two files. They are read again when they
// have changed; a pair that cannot be used leaves the last good one in force.
type pair struct {
	cert, key string
	say       func(error) // told once of each bad pair

	mu     sync.Mutex
	good   *tls.Certificate
	seen   [2]stamp // the files when they were last read
	looked time.Time
}

// stamp tells a file's contents from others, without reading them.
type stamp struct {
	changed time.Time
	size    int64
	inode   uint64
}

func newPair(cert, key string, say func(error)) (*pair, error) {
	p := &pair{cert: cert, key: key, say: say, looked: time.Now()}
	p.seen = p.stamps()
	var err error
	if p.good, err = p.read(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pair) read() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate %s with key %s: %w", p.cert, p.key, err)
	}
	return &c, nil
}

// current is the pair in force.
func (p *pair) current() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.looked) >= lookAtFiles {
		p.looked = now
		p.look()
	}
	return p.good
}

// look reads the files if they have changed. p.mu is held.
func (p *pair) look() {
	// Before they are read: what changes meanwhile is read the next time.
	stamps := p.stamps()
	if stamps == p.seen {
		return
	}
	p.seen = stamps
	c, err := p.read()
	if err != nil {
		p.say(fmt.Errorf("%w; the last good one stays in force", err))
		return
	}
	p.good = c
}

func (p *pair) stamps() (s [2]stamp) {
	for i, name := range []string{p.cert, p.key} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{changed: info.ModTime(), size: info.Size(), inode: inode(info)}
		}
	}
	return s
}

// inode tells a file from one that was put in its place with its times kept.
func inode(info os.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
