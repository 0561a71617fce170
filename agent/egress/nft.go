package egress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bulkhead/internal/netspace"
)

// ruleset is what the kernel has for rules in one namespace. Each of its
// changes raises its generation by one, so that others' are noticed.
// It is not safe for use by several goroutines.
type ruleset struct {
	ns    netns.NsHandle
	conn  *nftables.Conn
	ask   *netlink.Conn
	known uint32 // generation after our last change
	alien bool   // somebody else has changed something since
}

func openRuleset(ns netns.NsHandle) (*ruleset, error) {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil, fmt.Errorf("want nftables' program nft: %w", err)
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)), nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("cannot open nftables: %w", err)
	}
	ask, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open nftables: %w", err), conn.CloseLasting())
	}
	r := &ruleset{ns: ns, conn: conn, ask: ask}
	if r.known, err = r.generation(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *ruleset) close() error {
	return errors.Join(r.ask.Close(), r.conn.CloseLasting())
}

// run has nft carry out a script: all of it or, with an error, nothing.
func (r *ruleset) run(script string) error {
	_, err := r.nft(script, "-f", "-")
	return r.changed(err)
}

// list returns a table as nft shows it, without counters and the like.
func (r *ruleset) list(table string) (string, error) {
	return r.nft("", "-s", "list", "table", "inet", table)
}

func (r *ruleset) nft(input string, args ...string) (string, error) {
	var out, wrong bytes.Buffer
	err := netspace.Within(r.ns, func() error {
		nft := exec.Command("nft", args...)
		nft.Stdin, nft.Stdout, nft.Stderr = strings.NewReader(input), &out, &wrong
		return nft.Run()
	})
	if err != nil {
		return "", fmt.Errorf("cannot have nft %s: %w: %.500s", strings.Join(args, " "), err, wrong.String())
	}
	return out.String(), nil
}

// edit changes elements of sets straight in the kernel, all or none.
func (r *ruleset) edit(changes ...func(*nftables.Conn) error) error {
	var err error
	for _, change := range changes {
		err = errors.Join(err, change(r.conn))
	}
	return r.changed(errors.Join(err, r.conn.Flush()))
}

// changed notes the generation after a change of ours.
func (r *ruleset) changed(err error) error {
	now, askErr := r.generation()
	if askErr != nil {
		return errors.Join(err, askErr)
	}
	if err == nil && now != r.known+1 || err != nil && now != r.known {
		r.alien = true
	}
	r.known = now
	return err
}

// disturbed says, once, whether somebody else has changed anything in the
// namespace.
func (r *ruleset) disturbed() (bool, error) {
	now, err := r.generation()
	if err != nil {
		return false, err
	}
	yes := r.alien || now != r.known
	r.known, r.alien = now, false
	return yes, nil
}

func (r *ruleset) generation() (uint32, error) {
	answers, err := r.ask.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("cannot ask nftables for its generation: %w", err)
	}
	for _, a := range answers {
		if len(a.Data) < 4 {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(a.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("cannot read nftables' generation: %w", err)
		}
		attrs.ByteOrder = binary.BigEndian
		for attrs.Next() {
			if attrs.Type() == unix.NFTA_GEN_ID {
				return attrs.Uint32(), nil
			}
		}
	}
	return 0, errors.New("nftables does not tell its generation")
}

// follow calls changed after each change to the namespace's rules, whoever
// made it, until the connection it returns is closed.
func (r *ruleset) follow(changed func()) (*netlink.Conn, error) {
	events, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(r.ns), Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return nil, fmt.Errorf("cannot follow nftables: %w", err)
	}
	go func() {
		for {
			_, err := events.Receive()
			if err != nil && !errors.Is(err, unix.ENOBUFS) { // too many to tell them all: one is enough
				return
			}
			changed()
		}
	}()
	return events, nil
}
