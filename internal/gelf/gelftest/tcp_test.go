package gelftest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/gelf"
)

func TestTCPFramesArriveInOrder(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	c := dial(t, in, "tcp")
	send(t, c, docs(1000))
	halfClose(t, c)
	wantEOF(t, c)
	// No waiting: EOF comes after everything was handed over.
	wantMessages(t, l, sequence(1000))
	if r := l.Messages()[0]; r.Conn != 1 || r.Transport != "tcp" {
		t.Errorf("got %+v", r)
	}
}

func TestTCPConnectionsAreNumbered(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	for range 3 {
		c := dial(t, in, "tcp")
		send(t, c, docs(1))
		halfClose(t, c)
		wantEOF(t, c)
	}
	for i, r := range l.Messages() {
		if r.Conn != uint64(i+1) {
			t.Errorf("message %d on connection %d", i, r.Conn)
		}
	}
	if open, accepted := in.Conns(); open > 1 || accepted != 3 {
		t.Errorf("got %d open, %d accepted", open, accepted)
	}
}

func TestTCPMessageSizeLimit(t *testing.T) {
	long := func(n int) string {
		head := `{"host":"h","short_message":"long","full_message":"`
		return head + strings.Repeat("x", n-len(head)-2) + `"}`
	}
	for _, tt := range []struct {
		name string
		size int
		want string
	}{
		{"limit-1", MaxFrameBytes - 1, "long after"},
		{"limit", MaxFrameBytes, "long after"},
		{"limit+1", MaxFrameBytes + 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, l := startLog(t, Options{TCP: loopback})
			c := dial(t, in, "tcp")
			// The input may close while we write.
			_, err := io.WriteString(c, long(tt.size)+"\x00"+strings.Repeat(" ", 2*readBytes)+doc("after")+"\x00")
			if tt.want != "" {
				if err != nil {
					t.Fatal(err)
				}
				halfClose(t, c)
				wantEOF(t, c)
			} else {
				_ = ended(t, c) // EOF or reset, not the deadline
			}
			wantMessages(t, l, tt.want)
		})
	}
}

func TestTCPBadFrameClosesConnection(t *testing.T) {
	for _, tt := range []struct{ name, bad string }{
		{"oversize frame", strings.Repeat("x", 201) + "\x00"},
		{"empty frame", "\x00"},
		{"one-byte frame", "x\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, l := startLog(t, Options{TCP: loopback, MaxFrameBytes: 200})
			c := dial(t, in, "tcp")
			// One write that the input gets with one read.
			send(t, c, doc("before")+"\x00"+tt.bad+doc("same")+"\x00"+doc("tail"))
			wantEOF(t, c)
			wantMessages(t, l, "before same tail")
		})
		t.Run(tt.name+" before unread data", func(t *testing.T) {
			in, l := startLog(t, Options{TCP: loopback, MaxFrameBytes: 200})
			in.Stall() // so that everything is there at the first read
			c := dial(t, in, "tcp")
			send(t, c, tt.bad+docs(1000))
			in.Resume()
			if err := ended(t, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			if n := len(l.Messages()); n == 0 || n > readBytes/len(doc("0")) {
				t.Errorf("%d messages arrived, want those of the same read", n)
			}
		})
	}
	t.Run("oversize without end", func(t *testing.T) {
		in, l := startLog(t, Options{TCP: loopback, MaxFrameBytes: 200})
		c := dial(t, in, "tcp")
		send(t, c, strings.Repeat("x", 201))
		wantEOF(t, c)
		if got := len(l.Messages()) + len(l.Others()); got != 0 {
			t.Errorf("%d messages", got)
		}
	})
}

func TestTCPUnterminatedTail(t *testing.T) {
	for _, tt := range []struct {
		name, tail, accepted string
		others               int
	}{
		{"complete", doc("tail"), "0 tail", 0},
		{"truncated", doc("tail")[:40], "0", 1},
		{"one byte", "{", "0", 0},
		{"none", "", "0", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, l := startLog(t, Options{TCP: loopback})
			c := dial(t, in, "tcp")
			send(t, c, docs(1)+tt.tail)
			halfClose(t, c)
			wantEOF(t, c)
			wantMessages(t, l, tt.accepted)
			if n := len(l.Others()); n != tt.others {
				t.Errorf("%d refused messages, want %d", n, tt.others)
			}
		})
	}
}

func TestTCPSecondDocumentInFrameIsDropped(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	c := dial(t, in, "tcp")
	send(t, c, doc("a")+doc("b")+"\x00"+doc("c")+"\x00")
	halfClose(t, c)
	wantEOF(t, c)
	wantMessages(t, l, "a c")
}

func TestTCPByteByByte(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	c := dial(t, in, "tcp")
	for _, b := range []byte(docs(2)) {
		send(t, c, string([]byte{b}))
	}
	halfClose(t, c)
	wantEOF(t, c)
	wantMessages(t, l, "0 1")
}

// TestEOFComesAfterSinkAndBeforeClose holds the Sink at the last message, then
// BeforeClose, and looks for EOF in between.
func TestEOFComesAfterSinkAndBeforeClose(t *testing.T) {
	l := NewLog("message")
	inSink, leaveSink := make(chan bool), make(chan bool)
	inClose, leaveClose := make(chan bool), make(chan bool)
	in := Start(t, Options{
		TCP: loopback,
		Sink: func(m Message) {
			if m.Verdict().Message == "99" {
				inSink <- true
				<-leaveSink
			}
			l.Add(m)
		},
		BeforeClose: func() error {
			inClose <- true
			<-leaveClose
			return nil
		},
	})
	c := dial(t, in, "tcp")
	send(t, c, docs(100))
	halfClose(t, c)
	<-inSink
	wantOpen(t, c)
	leaveSink <- true
	<-inClose
	wantMessages(t, l, sequence(100))
	wantOpen(t, c)
	leaveClose <- true
	wantEOF(t, c)
}

func TestBeforeCloseErrorResetsAndStops(t *testing.T) {
	failure := errors.New("write file: no space")
	in, err := Listen(Options{TCP: loopback, BeforeClose: func() error { return failure }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- in.Run(context.Background()) }()
	c := dial(t, in, "tcp")
	send(t, c, docs(1))
	halfClose(t, c)
	if err := ended(t, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if err := <-done; !errors.Is(err, failure) {
		t.Errorf("Run returned %v", err)
	}
}

func TestSlowSinkPushesBack(t *testing.T) {
	release := make(chan bool)
	var n atomic.Int64
	in := Start(t, Options{TCP: loopback, Sink: func(Message) {
		if n.Add(1) == 1 {
			<-release
		}
	}})
	c := dial(t, in, "tcp")
	sent := fill(t, c, doc("x")+"\x00")
	if got := n.Load(); got != 1 {
		t.Errorf("the sink was called %d times", got)
	}
	release <- true
	halfClose(t, c)
	if err := c.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, c)
	// A last message that was cut counts too.
	if got := n.Load(); got < sent || got > sent+1 {
		t.Errorf("the sink was called %d times for %d messages", got, sent)
	}
}

// fill writes s until the peer takes no more, and returns how many it wrote.
func fill(t *testing.T, c net.Conn, s string) (sent int64) {
	t.Helper()
	block := strings.Repeat(s, 1000)
	var bytes int64
	for {
		if err := c.SetWriteDeadline(time.Now().Add(10 * moment)); err != nil {
			t.Fatal(err)
		}
		n, err := io.WriteString(c, block)
		bytes += int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return bytes / int64(len(s))
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes > 64<<20 {
			t.Fatal("the input reads on")
		}
	}
}

func TestTLSHalfClose(t *testing.T) {
	server, client := tlsConfigs(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := client.Clone()
		client.MaxVersion = version
		in, l := startLog(t, Options{TCP: loopback, TLS: server})
		c, err := tls.Dial("tcp", in.Addr("tcp"), client)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		send(t, c, docs(1000))
		halfClose(t, c)
		wantEOF(t, c)
		wantMessages(t, l, sequence(1000))
	}
}

func TestTLSWithoutCloseNotify(t *testing.T) {
	server, client := tlsConfigs(t)
	in, l := startLog(t, Options{TCP: loopback, TLS: server})
	raw := dial(t, in, "tcp")
	client.ServerName = "127.0.0.1"
	c := tls.Client(raw, client)
	send(t, c, docs(2)+doc("tail"))
	halfClose(t, raw)
	waitFor(t, l, 3)
	wantMessages(t, l, "0 1 tail")
}

func TestTLSHandshakeFailureIsNoMessage(t *testing.T) {
	server, _ := tlsConfigs(t)
	in, l := startLog(t, Options{TCP: loopback, TLS: server})
	c := dial(t, in, "tcp")
	send(t, c, docs(1))
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err) // the deadline
	}
	if n := len(l.Messages()) + len(l.Others()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// TestFramerScansOnce is about the cost of long frames: no byte is looked at twice.
func TestFramerScansOnce(t *testing.T) {
	const size = 16 << 20
	f := framer{max: size}
	for range size / readBytes {
		clear(f.room())
		for i, room := 0, f.room(); i < len(room); i++ {
			room[i] = 'x'
		}
		f.took(readBytes)
		if _, more, err := f.next(); more || err != nil {
			t.Fatal(more, err)
		}
		if f.scanned != len(f.buf) {
			t.Fatalf("scanned %d of %d", f.scanned, len(f.buf))
		}
	}
	f.room()[0] = 0
	f.took(1)
	if frame, more, err := f.next(); !more || err != nil || len(frame) != size {
		t.Fatalf("got %d bytes, %v, %v", len(frame), more, err)
	}
	f.room()
	if cap(f.buf) > 64<<10 {
		t.Errorf("keeps %d bytes", cap(f.buf))
	}
}

func FuzzFramer(f *testing.F) {
	f.Add([]byte("ab\x00cd\x00\x00e"), uint8(3))
	f.Add([]byte("abcdefgh\x00i\x00"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		const limit = 5
		fr := framer{max: limit}
		var got [][]byte
		tooLong := false
		for rest := in; len(rest) > 0 && !tooLong; {
			n := copy(fr.room()[:int(step)+1], rest)
			fr.took(n)
			rest = rest[n:]
			for {
				frame, more, err := fr.next()
				tooLong = tooLong || err != nil
				if !more {
					break
				}
				if err == nil {
					got = append(got, bytes.Clone(frame))
				}
			}
		}
		var want [][]byte
		wantTooLong := false
		parts := bytes.Split(in, []byte{0})
		for _, p := range parts {
			wantTooLong = wantTooLong || len(p) > limit
		}
		if tooLong != wantTooLong {
			t.Fatalf("too long: %v, want %v", tooLong, wantTooLong)
		}
		if tooLong {
			return
		}
		want = parts[:len(parts)-1]
		if !bytes.Equal(bytes.Join(got, []byte{0}), bytes.Join(want, []byte{0})) || len(got) != len(want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if len(in) > 0 && !bytes.Equal(fr.rest(), parts[len(parts)-1]) {
			t.Error("wrong rest")
		}
	})
}

func TestLog(t *testing.T) {
	l := NewLog()
	l.Add(Message{Transport: "tcp", Conn: 7, Raw: []byte(doc("a"))})
	l.Add(Message{Raw: []byte("{}")})
	if got := l.Messages(); len(got) != 1 || got[0].Conn != 7 || string(got[0].Raw) != doc("a") || got[0].Verdict.Message != "a" {
		t.Errorf("got %+v", got)
	}
	if got := l.Others(); len(got) != 1 || got[0].Verdict.Outcome != gelf.Refused {
		t.Errorf("got %+v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.WaitFor(ctx, 2); err == nil || !strings.Contains(err.Error(), "have 1, and 1 that graylog loses") {
		t.Errorf("got %v", err)
	}
	fields := NewLog("source", "n", "none")
	fields.Add(Message{Raw: []byte(`{"host":"h","short_message":"m","_n":5}`)})
	if got := strings.Join(fields.Messages()[0].Values, ","); got != "h,5," {
		t.Errorf("got %q", got)
	}
}

// BenchmarkTCP receives frames of 600 bytes; b.N counts messages.
func BenchmarkTCP(b *testing.B) {
	in := Start(b, Options{TCP: loopback})
	c, err := net.Dial("tcp", in.Addr("tcp"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	frame := doc(strings.Repeat("x", 520)) + "\x00"
	block := []byte(strings.Repeat(frame, 100))
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for n := b.N; n > 0; n -= 100 {
		if _, err := c.Write(block[:min(n, 100)*len(frame)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		b.Fatal(err)
	}
}
