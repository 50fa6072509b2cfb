package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/record"
	"sidecar/internal/spool"
)

// What the spool is filled with: batches that are synced each.
const (
	batchMessages = 1000
	messageBytes  = 500
	batchBytes    = batchMessages * messageBytes
	batches       = 400
	backlogBytes  = 1 << 30
	spoolRounds   = 9
)

// benchSpool measures what takes wall time in the spool, in dir: appending, beside the
// same bytes in a plain file, and opening with a backlog.
func benchSpool(dir string) error {
	backlog := filepath.Join(dir, "backlog")
	if err := fillSpool(backlog, spool.Options{MaxBytes: 2 * backlogBytes}, backlogBytes/batchBytes); err != nil {
		return err
	}
	jobs := []struct {
		name string
		run  func(dir string) error
		wall []float64
	}{
		{name: "spool: append", run: func(dir string) error {
			return fillSpool(dir, spool.Options{OnFull: spool.DiscardOldest}, batches)
		}},
		{name: "plain file: write", run: fillFile},
		{name: "spool with 1 GiB of backlog: open, read the first message", run: func(string) error { return readFirst(backlog) }},
	}
	for round := range spoolRounds {
		fmt.Fprintf(os.Stderr, "bench: round %d of %d: spool\n", round+1, spoolRounds)
		for i := range jobs {
			place, err := os.MkdirTemp(dir, "spool-")
			if err != nil {
				return err
			}
			start := time.Now()
			if err := jobs[i].run(place); err != nil {
				return fmt.Errorf("%s: %w", jobs[i].name, err)
			}
			jobs[i].wall = append(jobs[i].wall, time.Since(start).Seconds())
			if err := os.RemoveAll(place); err != nil {
				return err
			}
		}
	}
	fmt.Printf("| %d messages of %d bytes for each sync | MB/s | best round |\n|---|---|---|\n", batchMessages, messageBytes)
	const megabytes = batches * batchBytes / 1e6
	for _, j := range jobs[:2] {
		fmt.Printf("| %s | %.0f | %.0f |\n", j.name, megabytes/median(j.wall), megabytes/slices.Min(j.wall))
	}
	open := jobs[2]
	fmt.Printf("\n%s: %.0f ms, best round %.0f ms\n\n", open.name, 1e3*median(open.wall), 1e3*slices.Min(open.wall))
	return os.RemoveAll(backlog)
}

// fillSpool appends batches to the spool in dir.
func fillSpool(dir string, o spool.Options, batches int) error {
	s, err := spool.Open(dir, o)
	if err != nil {
		return err
	}
	msgs := make([]spool.Message, batchMessages)
	for i := range msgs {
		msgs[i] = spool.Message{Text: bytes.Repeat([]byte{byte(i)}, messageBytes), TimeUsec: time.Now().UnixMicro(), Priority: 6,
			Source: []byte("syslog"), Peer: []byte("192.0.2.17"), Transport: []byte("tcp")}
	}
	for range batches {
		if err := s.Append(context.Background(), msgs); err != nil {
			return err
		}
	}
	return s.Close()
}

// fillFile writes batches of bytes to a file in dir, and syncs each.
func fillFile(dir string) error {
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		return err
	}
	defer f.Close()
	b := bytes.Repeat([]byte("x"), batchBytes)
	for range batches {
		if _, err := f.Write(b); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
	}
	return nil
}

// readFirst opens the spool in dir and reads its first message.
func readFirst(dir string) error {
	s, err := spool.Open(dir, spool.Options{MaxBytes: 2 * backlogBytes})
	if err != nil {
		return err
	}
	source := s.NewSource("spool", nil)
	defer source.Close()
	var e record.Entry
	ok, err := source.Next(&e)
	if err == nil && !ok {
		err = errors.New("there is no message")
	}
	if err != nil {
		return err
	}
	return s.Close()
}
