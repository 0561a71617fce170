package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/internal/audit"
)

func newAuditExport(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "export --into FILE",
		Short: "Add to a file what was recorded since",
		Long: fmt.Sprintf(`export adds to FILE the records after its last one, once both are found to be one
unbroken chain. etcd keeps the last %d records or so: run it often enough, as
from a timer, and keep the file where those who run the cluster cannot change it.`, audit.Kept),
		Example: `  bulkhead audit export --into audit.jsonl`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			return a.auditExport(cmd.Context(), s, file)
		},
	}
	cmd.Flags().StringVar(&file, "into", "", "the file (required)")
	_ = cmd.MarkFlagRequired("into")
	return cmd
}

func (a *app) auditExport(ctx context.Context, s store, file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot export: %w", err)
	}
	defer f.Close()
	had, err := audit.Verify(f, nil)
	if err != nil {
		return fail(exitInvalid, "begin another file, and find out who changed this one", "cannot add to %s: %w", file, err)
	}
	var lines bytes.Buffer
	head, err := audit.Copy(ctx, s.KV, had.Head.N, &lines)
	switch {
	case err != nil:
		return err
	case head.N < had.Head.N:
		return fail(exitFailure, "was etcd restored from a backup? Begin another file", "cannot add to %s: it ends with record %d, etcd's log with record %d", file, had.Head.N, head.N)
	}
	all, err := had.Extend(bytes.NewReader(lines.Bytes()))
	switch {
	case err != nil && all.Head == had.Head && had.Head.N > 0:
		return fail(exitFailure, "begin another file; etcd keeps the last "+fmt.Sprint(audit.Kept)+" or so", "cannot add to %s: what etcd has does not follow its record %d: %w", file, had.Head.N, err)
	case err != nil:
		return fail(exitFailure, "bulkhead audit verify says more", "cannot trust the audit log in etcd: %w", err)
	case all.Head.Hash != head.Hash && head.N > 0:
		return fail(exitFailure, "find out who can write as root or as a scheduler", "the audit log in etcd ends with %s, but its end is noted as %s", all.Head, head)
	}
	if _, err = f.Write(lines.Bytes()); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	added := all.Head.N - had.Head.N
	if had.Head.N == 0 && head.N > 0 {
		added = all.Head.N - all.First.N + 1
	}
	return a.say(map[string]any{"file": file, "added": added, "head": all.Head.String()}, func(w io.Writer) {
		fmt.Fprintf(w, "%d records added to %s; head %s\n", added, file, all.Head)
	})
}

func newAuditVerify(a *app) *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Tell whether an audit log is unbroken",
		Long: `verify reads an exported log, or without FILE the one in etcd, and tells whether it
is one unbroken chain, or the first record that is not as it was. With a file it
needs no cluster. Whoever can write a log can also write another one, or cut off
its end: --head takes an end that was noted elsewhere, as export prints it and
schedulers log it ("audit log goes on"), and makes sure that the log contains it.`,
		Example: `  bulkhead audit verify audit.jsonl
  bulkhead audit verify audit.jsonl --head 17:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  bulkhead audit verify`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.auditVerify(cmd.Context(), args, head) },
	}
	cmd.Flags().StringVar(&head, "head", "", "an end, noted elsewhere, that it has to contain")
	return cmd
}

func (a *app) auditVerify(ctx context.Context, args []string, head string) error {
	var want audit.Head
	if head != "" {
		var err error
		if want, err = audit.ParseHead(head); err != nil {
			return usageError(fmt.Errorf("--head: %w", err))
		}
	}
	data, err := a.auditLines(ctx, args)
	if err != nil {
		return err
	}
	l, err := audit.VerifyTo(bytes.NewReader(data), want)
	if err != nil {
		code := exitFailure
		if errors.Is(err, audit.ErrBroken) {
			code = exitInvalid
		}
		return fail(code, "what stands before that record is as it was recorded; compare the rest with another copy", "the audit log is not what was recorded: %w", err)
	}
	return a.say(map[string]any{"first": l.First.N, "last": l.Last.N, "head": l.Head.String()}, func(w io.Writer) {
		if l.Head.N == 0 {
			fmt.Fprintln(w, "there is no record")
			return
		}
		fmt.Fprintf(w, "unbroken: records %d to %d, %s to %s\nhead %s\n", l.First.N, l.Last.N, l.First.At.Format(time.RFC3339), l.Last.At.Format(time.RFC3339), l.Head)
		if head == "" {
			fmt.Fprintln(w, "nothing vouches for its last record but itself: compare the head with one that was noted elsewhere (--head)")
		}
	})
}

// auditLines reads a log from a file, or from etcd, where its end is known.
func (a *app) auditLines(ctx context.Context, args []string) ([]byte, error) {
	if len(args) > 0 {
		return a.readInput(args[0])
	}
	s, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var lines bytes.Buffer
	head, err := audit.Copy(ctx, s.KV, 0, &lines)
	if err != nil || head.N == 0 {
		return lines.Bytes(), err
	}
	if _, err := audit.VerifyTo(bytes.NewReader(lines.Bytes()), head); err != nil {
		return nil, fail(exitInvalid, "find out who can write as root or as a scheduler", "the audit log in etcd is not what was recorded: %w", err)
	}
	return lines.Bytes(), nil
}
