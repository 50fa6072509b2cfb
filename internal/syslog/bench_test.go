package syslog

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"sidecar/internal/record"
	"sidecar/internal/spool"
	"sidecar/test/cputime"
)

// counter is a sink that only counts.
type counter struct{ n atomic.Int64 }

func (c *counter) Append(_ context.Context, msgs []spool.Message) error {
	c.n.Add(int64(len(msgs)))
	return nil
}

func (c *counter) Gather(ctx context.Context, msgs []spool.Message) error { return c.Append(ctx, msgs) }

// BenchmarkIntake measures intake alone, of messages of 500 octets, from the socket
// to the sink: the CPU time includes the sender's in this process.
func BenchmarkIntake(b *testing.B) {
	message := message3164 + strings.Repeat("x", 499-len(message3164)) + "\n"
	for _, c := range []struct {
		address string
		at      int // messages for each write
	}{{"tcp://127.0.0.1:0", 100}, {"udp://127.0.0.1:0", 1}} {
		b.Run(c.address[:3], func(b *testing.B) {
			sink := &counter{}
			l, err := Listen(Options{Listen: c.address, Sink: sink, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			addr := l.Addrs()[0]
			go func() { ended <- l.Run(ctx) }()
			conn, err := net.Dial(addr.Network(), addr.String())
			if err != nil {
				b.Fatal(err)
			}
			block := bytes.Repeat([]byte(message), c.at)
			sent := int64(0)
			b.SetBytes(int64(len(block)))
			report := cputime.Start(b)
			for b.Loop() {
				if _, err := conn.Write(block); err != nil {
					b.Fatal(err)
				}
				sent += int64(c.at)
			}
			report()
			conn.Close()
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
			lost := sent - sink.n.Load()
			if c.at > 1 && lost != 0 {
				b.Errorf("%d of %d messages are missing", lost, sent)
			}
			b.ReportMetric(float64(lost)/float64(sent), "lost/message")
			b.ReportMetric(float64(c.at), "messages/op")
		})
	}
}

// BenchmarkSpooled measures the whole way of messages of 500 octets: by TCP into a
// spool, in memory if TMPDIR is, and back as decoded entries, sending included.
func BenchmarkSpooled(b *testing.B) {
	message := message3164 + strings.Repeat("x", 499-len(message3164)) + "\n"
	const at = 1000
	s, err := spool.Open(b.TempDir(), spool.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := Listen(Options{Listen: "tcp://127.0.0.1:0", Sink: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	addr := l.Addrs()[0]
	go func() { ended <- l.Run(ctx) }()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		b.Fatal(err)
	}
	var d Decoder
	source := s.NewSource("syslog", func(_ *spool.Message, e *record.Entry) { d.Decode(e) })
	defer source.Close()
	block := bytes.Repeat([]byte(message), at)
	b.SetBytes(int64(len(block)))
	report := cputime.Start(b)
	for b.Loop() {
		if _, err := conn.Write(block); err != nil {
			b.Fatal(err)
		}
		var e record.Entry
		for n := 0; n < at; {
			ok, err := source.Next(&e)
			switch {
			case err != nil:
				b.Fatal(err)
			case ok:
				n++
			default:
				<-source.Ready()
			}
		}
		position, err := source.Position(nil)
		if err == nil {
			err = source.Commit(position)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	report()
	b.ReportMetric(at, "messages/op")
	conn.Close()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
