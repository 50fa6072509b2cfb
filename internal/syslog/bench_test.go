package syslog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4"
	oracle3164 "github.com/leodido/go-syslog/v4/rfc3164"
	oracle5424 "github.com/leodido/go-syslog/v4/rfc5424"

	"sidecar/internal/budget"
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

// BenchmarkRFC5424 and BenchmarkRFC3164 are what a message of a stream costs besides
// system calls and the sink. go-syslog gets each message cut already.
func BenchmarkRFC5424(b *testing.B) {
	b.Run("logship: framing by counts and header", func(b *testing.B) {
		benchmarkStream(b, fmt.Sprintf("%d %s", len(message5424), message5424))
	})
	p := oracle5424.NewParser()
	b.Run("go-syslog: header alone", func(b *testing.B) { benchmarkMachine(b, p, message5424) })
}

func BenchmarkRFC3164(b *testing.B) {
	b.Run("logship: framing by newlines and header", func(b *testing.B) { benchmarkStream(b, message3164+"\n") })
	p := oracle3164.NewParser(oracle3164.WithYear(oracle3164.CurrentYear{}))
	b.Run("go-syslog: header alone", func(b *testing.B) { benchmarkMachine(b, p, message3164) })
}

func benchmarkStream(b *testing.B, framed string) {
	f, d := newFrames(Auto, 64<<10, budget.New(0)), Decoder{Zone: time.UTC}
	e := record.Entry{TimeUsec: time.Now().UnixMicro()}
	read := strings.Repeat(framed, budget.SmallBytes/len(framed))
	b.ReportAllocs()
	report := cputime.Start(b)
	for b.Loop() {
		text, ok := f.next()
		if !ok {
			space, err := f.space(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			f.wrote(copy(space, read))
			text, _ = f.next()
		}
		e.Message, e.Identifier = text, nil
		d.Decode(&e)
	}
	report()
	if string(e.Identifier) == "" {
		b.Error("no header was read")
	}
}

func benchmarkMachine(b *testing.B, p syslog.Machine, message string) {
	text := []byte(message)
	b.ReportAllocs()
	report := cputime.Start(b)
	for b.Loop() {
		if _, err := p.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
	report()
}
