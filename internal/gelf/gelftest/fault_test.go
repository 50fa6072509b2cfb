package gelftest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

func wantReset(t *testing.T, c io.Reader) {
	t.Helper()
	if err := ended(t, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

func TestStallResume(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	before := dial(t, in, "tcp")
	send(t, before, docs(1))
	waitFor(t, l, 1)
	in.Stall()
	after := dial(t, in, "tcp")
	send(t, after, docs(1))
	sent := fill(t, before, doc("x")+"\x00")
	wantOpen(t, before)
	if n := len(l.Messages()); n != 1 {
		t.Fatalf("%d messages while stalled", n)
	}
	in.Resume()
	halfClose(t, before)
	halfClose(t, after)
	wantEOF(t, before)
	wantEOF(t, after)
	if n := int64(len(l.Messages())); n != 2+sent {
		t.Errorf("%d messages, want %d", n, 2+sent)
	}
}

func TestResetWhileStalled(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	in.Stall()
	c := dial(t, in, "tcp")
	send(t, c, docs(10))
	awaitConns(t, in, 1)
	in.Reset()
	in.Resume()
	wantReset(t, c)
	if n := len(l.Messages()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

func awaitConns(t *testing.T, in *Input, n uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := in.WaitConns(ctx, n); err != nil {
		t.Fatal(err)
	}
}

func TestResetOfIdleConnections(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	a, b := dial(t, in, "tcp"), dial(t, in, "tcp")
	send(t, a, docs(1))
	waitFor(t, l, 1)
	awaitConns(t, in, 2)
	in.Reset()
	wantReset(t, a)
	wantReset(t, b)
	c := dial(t, in, "tcp")
	send(t, c, docs(1))
	halfClose(t, c)
	wantEOF(t, c)
	wantMessages(t, l, "0 0")
}

func TestCloseNow(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	c := dial(t, in, "tcp")
	send(t, c, docs(1))
	waitFor(t, l, 1)
	in.CloseNow()
	wantEOF(t, c)
	// What comes now is taken by the kernel only.
	send(t, c, docs(100))
	halfClose(t, c)
	other := dial(t, in, "tcp")
	send(t, other, doc("other")+"\x00")
	halfClose(t, other)
	wantEOF(t, other)
	wantMessages(t, l, "0 other")
}

func TestCloseNowWithTLS(t *testing.T) {
	server, client := tlsConfigs(t)
	in, l := startLog(t, Options{TCP: loopback, TLS: server})
	c := dialTLS(t, in, client)
	send(t, c, docs(1))
	waitFor(t, l, 1)
	in.CloseNow()
	wantEOF(t, c)
}

func TestHangUp(t *testing.T) {
	server, client := tlsConfigs(t)
	for _, config := range []*tls.Config{nil, server} {
		in, l := startLog(t, Options{TCP: loopback, TLS: config})
		var c net.Conn
		if config == nil {
			c = dial(t, in, "tcp")
		} else {
			c = dialTLS(t, in, client)
		}
		send(t, c, docs(1))
		waitFor(t, l, 1)
		in.HangUp()
		wantEOF(t, c)
		if open, _ := in.Conns(); open != 0 {
			t.Errorf("%d connections open", open)
		}
	}
}

func TestHangUpWithUnreadDataResets(t *testing.T) {
	in, _ := startLog(t, Options{TCP: loopback})
	in.Stall()
	c := dial(t, in, "tcp")
	awaitConns(t, in, 1)
	send(t, c, docs(1))
	in.HangUp()
	wantReset(t, c)
}

// TestWriteAfterHangUpStillReadsEOF shows why a sender must not take any EOF
// for a confirmation: this one is older than the half-close, and reading it does
// not tell.
func TestWriteAfterHangUpStillReadsEOF(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	c := dial(t, in, "tcp")
	send(t, c, docs(1))
	waitFor(t, l, 1)
	in.HangUp()
	send(t, c, doc("lost")+"\x00")
	_ = c.CloseWrite() // fails if the reset is faster
	wantEOF(t, c)
	wantMessages(t, l, "0")
}

func TestWaitConnsEndsWithContext(t *testing.T) {
	in := Start(t, Options{TCP: loopback})
	ctx, cancel := context.WithTimeout(context.Background(), moment)
	defer cancel()
	if err := in.WaitConns(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestRefuseNewAcceptNew(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback, HTTP: loopback})
	open := dial(t, in, "tcp")
	awaitConns(t, in, 1)
	in.RefuseNew()
	for _, transport := range []string{"tcp", "http"} {
		if c, err := net.Dial("tcp", in.Addr(transport)); !errors.Is(err, syscall.ECONNREFUSED) {
			if err == nil {
				c.Close()
			}
			t.Errorf("%s: got %v, want connection refused", transport, err)
		}
	}
	send(t, open, docs(1))
	waitFor(t, l, 1)
	if err := in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, in, "tcp")
	send(t, c, docs(1))
	waitFor(t, l, 2)
	if got := post(t, dial(t, in, "http"), "/gelf", doc("http")); got != 202 {
		t.Errorf("status %d", got)
	}
	waitFor(t, l, 3)
}

func TestKillAfter(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	killed := in.KillAfter(3)
	c := dial(t, in, "tcp")
	send(t, c, docs(10))
	<-killed
	wantReset(t, c)
	c = dial(t, in, "tcp")
	send(t, c, doc("again")+"\x00")
	halfClose(t, c)
	wantEOF(t, c)
	wantMessages(t, l, "0 1 2 again")
	<-in.KillAfter(0)
}

func TestKillAfterLastMessageGivesNoEOF(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	in.KillAfter(10)
	c := dial(t, in, "tcp")
	send(t, c, docs(10))
	// Half-closing fails if the reset is faster.
	_ = c.CloseWrite()
	wantReset(t, c)
	wantMessages(t, l, sequence(10))
}

func TestNeverEOF(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	in.NeverEOF(true)
	c := dial(t, in, "tcp")
	send(t, c, docs(10))
	halfClose(t, c)
	waitFor(t, l, 10)
	wantOpen(t, c)
	in.NeverEOF(false)
	wantEOF(t, c)
}

func TestAnswerFIN(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback})
	in.AnswerFIN(true)
	c := dial(t, in, "tcp")
	send(t, c, docs(10))
	halfClose(t, c)
	wantEOF(t, c)
	if n := len(l.Messages()); n != 0 {
		t.Errorf("%d messages reached the sink", n)
	}
}

func TestFaultsFromSink(t *testing.T) {
	var in *Input
	l, ready := NewLog("message"), make(chan bool)
	in = Start(t, Options{TCP: loopback, Sink: func(m Message) {
		<-ready
		l.Add(m)
		if m.Verdict().Message == "4" {
			in.Reset()
		}
	}})
	close(ready)
	c := dial(t, in, "tcp")
	send(t, c, docs(10))
	wantReset(t, c)
	wantMessages(t, l, sequence(5))
}

func TestTooManyConnectionsAreReset(t *testing.T) {
	in, l := startLog(t, Options{TCP: loopback, MaxConns: 1})
	first := dial(t, in, "tcp")
	awaitConns(t, in, 1)
	// The reset may even be faster than the end of connecting.
	c, err := net.Dial("tcp", in.Addr("tcp"))
	if err == nil {
		defer c.Close()
		err = ended(t, c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
	send(t, first, docs(1))
	waitFor(t, l, 1)
}

func TestRunEndsWithContext(t *testing.T) {
	in, err := Listen(Options{TCP: loopback, HTTP: loopback, UDP: loopback})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- in.Run(ctx) }()
	idle, stalled, web := dial(t, in, "tcp"), dial(t, in, "tcp"), dial(t, in, "http")
	awaitConns(t, in, 3)
	in.Stall()
	send(t, stalled, docs(10))
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run returned %v", err)
	}
	for _, c := range []net.Conn{idle, stalled, web} {
		wantReset(t, c)
	}
	if c, err := net.Dial("tcp", in.Addr("tcp")); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
	in.Close()
}

func TestCloseWithoutRun(t *testing.T) {
	in, err := Listen(Options{TCP: loopback})
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := in.Run(context.Background()); err != nil {
		t.Errorf("Run after Close returned %v", err)
	}
}

func TestListenErrors(t *testing.T) {
	if _, err := Listen(Options{}); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("got %v", err)
	}
	in := Start(t, Options{TCP: loopback, UDP: loopback})
	if _, err := Listen(Options{UDP: loopback, TCP: in.Addr("tcp")}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
	if _, err := Listen(Options{TCP: loopback, UDP: in.Addr("udp")}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
	if _, err := Listen(Options{UDP: "127.0.0.1:nonsense"}); err == nil {
		t.Error("a bad port is accepted")
	}
}
