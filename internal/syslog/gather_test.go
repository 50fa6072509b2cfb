package syslog

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"sidecar/internal/spool"
)

// script is a connection whose reads are given.
type script struct {
	net.Conn // the rest of its methods
	reads    []func(b []byte) (int, error)
}

func (c *script) Read(b []byte) (int, error) {
	if len(c.reads) == 0 {
		return 0, io.EOF
	}
	read := c.reads[0]
	c.reads = c.reads[1:]
	return read(b)
}

// tally is a sink that counts calls.
type tally struct{ gathered, appends int }

func (s *tally) Gather(_ context.Context, msgs []spool.Message) error {
	s.gathered += len(msgs)
	return nil
}

func (s *tally) Append(_ context.Context, msgs []spool.Message) error {
	s.gathered += len(msgs)
	s.appends++
	return nil
}

// Reads that bring much share one Append; it comes when a read brings little, when
// nothing more comes in time, and at the end.
func TestReadsShareOneAppend(t *testing.T) {
	sink := &tally{}
	l, err := Listen(Options{Listen: "tcp://127.0.0.1:0", Sink: sink, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	line := "<14>" + strings.Repeat("x", 59) + "\n"
	full := func(b []byte) (int, error) { return copy(b, strings.Repeat(line, len(b)/len(line))), nil }
	much := func(b []byte) (int, error) { return copy(b, strings.Repeat(line, len(b)/len(line)/2+1)), nil }
	little := func(b []byte) (int, error) { return copy(b, line), nil }
	late := func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }
	ended := func([]byte) (int, error) { return 0, io.EOF }
	// expect checks what the sink has before the next read.
	expect := func(appends int, next func([]byte) (int, error)) func([]byte) (int, error) {
		return func(b []byte) (int, error) {
			if sink.appends != appends {
				t.Errorf("after %d messages: %d calls of Append, want %d", sink.gathered, sink.appends, appends)
			}
			return next(b)
		}
	}
	server, client := net.Pipe()
	defer client.Close()
	conn := &script{Conn: server, reads: []func([]byte) (int, error){
		full, much, full, expect(0, late), expect(1, full), full, expect(1, little), expect(2, full), expect(2, ended)}}
	if err := l.serve(t.Context(), t.Context(), conn, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if sink.appends != 3 || l.Stats().TimedOut != 0 {
		t.Errorf("%+v, %+v", sink, l.Stats())
	}
}
