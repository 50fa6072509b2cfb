package spool

import (
	"bytes"
	"testing"

	"sidecar/internal/record"
	"sidecar/test/cputime"
)

// These write to the directory of temporary files: TMPDIR says whether that is a disk
// or memory. One iteration is a batch of 1,000 messages of 500 bytes, synced once.

const batchMessages = 1000

func benchBatch() []Message {
	msgs := make([]Message, batchMessages)
	for i := range msgs {
		msgs[i] = Message{Text: bytes.Repeat([]byte{byte(i)}, 500), TimeUsec: 1, Priority: 6,
			Source: []byte("syslog"), Peer: []byte("192.0.2.17:51000"), Transport: []byte("tcp")}
	}
	return msgs
}

func BenchmarkAppend(b *testing.B) {
	s, err := Open(b.TempDir(), Options{OnFull: DiscardOldest})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	msgs := benchBatch()
	b.SetBytes(500 * batchMessages)
	b.ReportAllocs()
	report := cputime.Start(b)
	for b.Loop() {
		if err := s.Append(b.Context(), msgs); err != nil {
			b.Fatal(err)
		}
	}
	report()
}

// BenchmarkAppendAndRead is what a message costs from intake to confirmation.
func BenchmarkAppendAndRead(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	src := s.NewSource("spool", nil)
	defer src.Close()
	msgs := benchBatch()
	b.SetBytes(500 * batchMessages)
	b.ReportAllocs()
	var e record.Entry
	report := cputime.Start(b)
	for b.Loop() {
		if err := s.Append(b.Context(), msgs); err != nil {
			b.Fatal(err)
		}
		for range batchMessages {
			if ok, err := src.Next(&e); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
		p, err := src.Position(nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := src.Commit(p); err != nil {
			b.Fatal(err)
		}
	}
	report()
}

// BenchmarkRestart opens a spool with a backlog of 1 GB and reads its first message.
func BenchmarkRestart(b *testing.B) {
	dir := b.TempDir()
	o := Options{MaxBytes: 2 << 30}
	s, err := Open(dir, o)
	if err != nil {
		b.Fatal(err)
	}
	msgs := benchBatch()
	for s.Stats().Bytes < 1<<30 {
		if err := s.Append(b.Context(), msgs); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	report := cputime.Start(b)
	for b.Loop() {
		s, err := Open(dir, o)
		if err != nil {
			b.Fatal(err)
		}
		src := s.NewSource("spool", nil)
		var e record.Entry
		if ok, err := src.Next(&e); !ok || err != nil {
			b.Fatal(ok, err)
		}
		src.Close()
		s.Close()
	}
	report()
}
