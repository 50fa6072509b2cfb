package output_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const loopback = "127.0.0.1:0"

// within returns a context for a step that must not hang.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// frames returns the frames first to last-1, whose messages are their numbers.
func frames(first, last int) []byte {
	var b strings.Builder
	for i := first; i < last; i++ {
		fmt.Fprintf(&b, `{"version":"1.1","host":"h","short_message":"%d"}`+"\x00", i)
	}
	return []byte(b.String())
}

func start(t *testing.T, o gelftest.Options) (*gelftest.Input, *gelftest.Log) {
	t.Helper()
	log := gelftest.NewLog("message")
	o.TCP, o.Logf = loopback, t.Logf
	if o.Sink == nil {
		o.Sink = log.Add
	}
	return gelftest.Start(t, o), log
}

// connect returns a connected output, which is aborted at the end of the test.
func connect(t *testing.T, o output.TCPOptions) *output.TCP {
	t.Helper()
	out := output.NewTCP(o)
	t.Cleanup(out.Abort)
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	return out
}

func send(t *testing.T, out output.Output, b []byte) {
	t.Helper()
	if err := out.Send(within(t), b); err != nil {
		t.Fatal(err)
	}
}

func event(t *testing.T, out output.Output) output.Event {
	t.Helper()
	select {
	case e := <-out.Events():
		return e
	case <-within(t).Done():
		t.Fatal("no event")
		return output.Event{}
	}
}

func want(t *testing.T, out output.Output, kind output.EventKind) output.Event {
	t.Helper()
	e := event(t, out)
	if e.Kind != kind {
		t.Fatalf("got event %+v, want kind %d", e, kind)
	}
	return e
}

func wantConfirmed(t *testing.T, out output.Output, id uint64) {
	t.Helper()
	if e := want(t, out, output.Confirmed); e.Cut != id {
		t.Fatalf("cut %d is confirmed, want %d", e.Cut, id)
	}
}

func wantFailed(t *testing.T, out output.Output, text string) {
	t.Helper()
	if e := want(t, out, output.Failed); !strings.Contains(e.Err.Error(), text) {
		t.Fatalf("got %v, want %q in it", e.Err, text)
	}
}

// cut asks for a confirmation, with the next connection first.
func cut(t *testing.T, out output.Output, id uint64) {
	t.Helper()
	for {
		done, err := out.Cut(within(t), id, false)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
		want(t, out, output.NextReady)
	}
}

func lastCut(t *testing.T, out output.Output, id uint64) {
	t.Helper()
	if done, err := out.Cut(within(t), id, true); !done || err != nil {
		t.Fatal(done, err)
	}
}

// wantNumbers checks that log holds exactly the messages 0 to n-1, in order.
func wantNumbers(t *testing.T, log *gelftest.Log, n int) []gelftest.Received {
	t.Helper()
	got := log.Messages()
	for i, r := range got {
		if r.Values[0] != strconv.Itoa(i) {
			t.Fatalf("message %d is %s", i, r.Values[0])
		}
	}
	if len(got) != n || len(log.Others()) != 0 {
		t.Fatalf("%d messages and %d others, want %d", len(got), len(log.Others()), n)
	}
	return got
}

func TestFramesArriveInOrderOverManyCuts(t *testing.T) {
	in, log := start(t, gelftest.Options{})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
	const rounds, each = 30, 400
	for i := range rounds {
		send(t, out, frames(i*each, i*each+each/2))
		send(t, out, frames(i*each+each/2, (i+1)*each))
		if i == rounds-1 {
			lastCut(t, out, uint64(i+1))
		} else {
			cut(t, out, uint64(i+1))
		}
		wantConfirmed(t, out, uint64(i+1))
		if n := len(log.Messages()); n != (i+1)*each {
			t.Fatalf("cut %d is confirmed with %d messages", i+1, n)
		}
	}
	for i, r := range wantNumbers(t, log, rounds*each) {
		if want := uint64(i/each + 1); r.Conn != want {
			t.Fatalf("message %d came over connection %d, want %d", i, r.Conn, want)
		}
	}
	if _, n := in.Conns(); n != rounds {
		t.Errorf("%d connections, want %d", n, rounds)
	}
}

// The next connection is open before the old one is given up, and what is sent
// goes to the old one until the cut.
func TestMakeBeforeBreak(t *testing.T) {
	in, log := start(t, gelftest.Options{})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
	if done, err := out.Cut(within(t), 1, false); done || err != nil {
		t.Fatal(done, err)
	}
	want(t, out, output.NextReady)
	if err := in.WaitConns(within(t), 2); err != nil {
		t.Fatal(err)
	}
	send(t, out, frames(0, 5))
	if err := log.WaitFor(within(t), 5); err != nil {
		t.Fatal(err)
	}
	if done, err := out.Cut(within(t), 1, false); !done || err != nil {
		t.Fatal(done, err)
	}
	send(t, out, frames(5, 6))
	wantConfirmed(t, out, 1)
	lastCut(t, out, 2)
	wantConfirmed(t, out, 2)
	for i, r := range wantNumbers(t, log, 6) {
		if want := uint64(1 + i/5); r.Conn != want {
			t.Errorf("message %d came over connection %d, want %d", i, r.Conn, want)
		}
	}
}

// While the sink still has a message in hand, nothing is confirmed.
func TestNothingIsConfirmedBeforeTheReceiverHasReadIt(t *testing.T) {
	for range 20 {
		var out *output.TCP
		var early atomic.Int64
		release := make(chan struct{})
		log := gelftest.NewLog("message")
		in, _ := start(t, gelftest.Options{Sink: func(m gelftest.Message) {
			<-release
			early.Add(int64(len(out.Events())))
			log.Add(m)
		}})
		out = connect(t, output.TCPOptions{Address: in.Addr("tcp")})
		send(t, out, frames(0, 200))
		lastCut(t, out, 1)
		close(release)
		wantConfirmed(t, out, 1)
		wantNumbers(t, log, 200)
		if early.Load() != 0 {
			t.Fatal("confirmed while messages were still being read")
		}
	}
}

func TestStallLosesNothing(t *testing.T) {
	in, log := start(t, gelftest.Options{})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
	in.Stall()
	time.AfterFunc(100*time.Millisecond, in.Resume)
	const n = 120_000 // more than what the kernel buffers, so Send must block
	for i := 0; i < n; i += 1000 {
		send(t, out, frames(i, i+1000))
	}
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	wantNumbers(t, log, n)
}

func TestSendIsInterruptedByItsContext(t *testing.T) {
	in, _ := start(t, gelftest.Options{})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
	in.Stall()
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	b := frames(0, 5000)
	for ctx.Err() == nil {
		if err := out.Send(ctx, b); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	if err := within(t).Err(); err != nil {
		t.Fatal("Send blocked for too long")
	}
}

func TestEndOfStreamBeforeHalfCloseFails(t *testing.T) {
	for name, fault := range map[string]func(*gelftest.Input){
		"EOF": (*gelftest.Input).CloseNow, "hang up": (*gelftest.Input).HangUp, "reset": (*gelftest.Input).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			in, log := start(t, gelftest.Options{})
			out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
			send(t, out, frames(0, 10))
			if err := log.WaitFor(within(t), 10); err != nil {
				t.Fatal(err)
			}
			fault(in)
			wantFailed(t, out, "")
			// A write after the peer's FIN would succeed, and be lost.
			if err := out.Send(within(t), frames(10, 11)); err == nil {
				t.Error("Send on a connection that has ended succeeds")
			}
			if done, err := out.Cut(within(t), 1, true); err == nil {
				t.Errorf("Cut of a connection that has ended: %v", done)
			}
			out.Abort()
			if err := out.Connect(within(t)); err != nil {
				t.Fatal(err)
			}
			send(t, out, frames(10, 11))
			lastCut(t, out, 2)
			wantConfirmed(t, out, 2)
			wantNumbers(t, log, 11)
		})
	}
}

// closer is a receiver that stops in an orderly way between two reads.
type closer struct {
	ln   net.Listener
	conn chan net.Conn
	read chan int // bytes that were read
}

func startCloser(t *testing.T) *closer {
	t.Helper()
	ln, err := net.Listen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &closer{ln: ln, conn: make(chan net.Conn, 1), read: make(chan int, 1)}
}

// serve reads one connection until its end, or until its read deadline is set.
func (s *closer) serve() {
	c, err := s.ln.Accept()
	if err != nil {
		s.read <- -1
		return
	}
	s.conn <- c
	n, _ := io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, 500))
	c.Close()
	s.read <- int(n)
}

// The peer's FIN and the half-close race: whoever wins, what the peer has not
// read is never confirmed.
func TestEndOfStreamThatCrossesTheHalfClose(t *testing.T) {
	confirmed := 0
	const rounds = 300
	receiver := startCloser(t)
	for i := range rounds {
		go receiver.serve()
		out := connect(t, output.TCPOptions{Address: receiver.ln.Addr().String()})
		c := <-receiver.conn
		send(t, out, frames(0, 20))
		go c.SetReadDeadline(time.Unix(1, 0))
		err := out.Send(within(t), frames(20, 40))
		if err == nil {
			_, err = out.Cut(within(t), 1, true)
		}
		if err == nil && event(t, out).Kind == output.Confirmed {
			confirmed++
			if n := <-receiver.read; n != len(frames(0, 40)) {
				t.Fatalf("round %d: confirmed with %d of %d bytes", i, n, len(frames(0, 40)))
			}
		} else {
			<-receiver.read
		}
		out.Abort()
	}
	t.Logf("%d of %d confirmed", confirmed, rounds)
}

func TestResetAfterHalfCloseFails(t *testing.T) {
	in, log := start(t, gelftest.Options{})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
	killed := in.KillAfter(5)
	send(t, out, frames(0, 10))
	<-killed
	wantFailed(t, out, "reset")
	out.Abort()

	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := in.WaitConns(within(t), 2); err != nil { // what is not accepted cannot be reset
		t.Fatal(err)
	}
	in.Stall()
	send(t, out, frames(5, 10))
	cut(t, out, 1)
	in.Reset()
	wantFailed(t, out, "reset")
	in.Resume()
	wantNumbers(t, log, 5)
}

func TestReceiverThatNeverEndsTheStreamFails(t *testing.T) {
	in, log := start(t, gelftest.Options{})
	in.NeverEOF(true)
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), CloseTimeout: 100 * time.Millisecond})
	send(t, out, frames(0, 10))
	cut(t, out, 1)
	wantFailed(t, out, "no end of stream and no progress after the half-close for 100ms")
	wantNumbers(t, log, 10)
}

// A receiver that needs longer than the time-out, but goes on reading, is not
// taken for a dead one: what would be sent again would make it slower still.
func TestSlowReceiverIsNotTakenForADeadOne(t *testing.T) {
	const timeout = 600 * time.Millisecond
	// What is in the receiver's buffer counts as taken, so it has a small one.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctl := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 128<<10) })
		return errors.Join(ctl, err)
	}}
	ln, err := config.Listen(within(t), "tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	payload := frames(0, 60_000)
	served := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		tick := time.NewTicker(timeout / 5)
		defer tick.Stop()
		for ; err == nil; <-tick.C {
			_, err = io.CopyN(io.Discard, c, int64(len(payload)/12))
		}
		served <- nil
	}()
	out := connect(t, output.TCPOptions{Address: ln.Addr().String(), CloseTimeout: timeout})
	send(t, out, payload)
	begin := time.Now()
	lastCut(t, out, 1)
	wantConfirmed(t, out, 1)
	if d := time.Since(begin); d < timeout {
		t.Errorf("read within %v, too fast for the test to say something", d)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func TestNextFailedKeepsTheCurrentConnection(t *testing.T) {
	in, log := start(t, gelftest.Options{})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
	if err := in.WaitConns(within(t), 1); err != nil {
		t.Fatal(err) // a connection that nobody has accepted ends with the listener
	}
	in.RefuseNew()
	for i := range 3 {
		if done, err := out.Cut(within(t), 1, false); done || err != nil {
			t.Fatal(done, err)
		}
		want(t, out, output.NextFailed)
		send(t, out, frames(i*10, i*10+10))
	}
	if err := in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	lastCut(t, out, 2)
	wantConfirmed(t, out, 2)
	for _, r := range wantNumbers(t, log, 30) {
		if r.Conn != 1 {
			t.Fatalf("a message came over connection %d", r.Conn)
		}
	}
}

// As with a balancer that accepts and has no receiver behind it.
func TestNextConnectionThatBreaksKeepsTheCurrentOne(t *testing.T) {
	in, log := start(t, gelftest.Options{MaxConns: 1})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp")})
	for id := range uint64(5) {
		send(t, out, frames(int(id)*10, int(id)*10+10))
		// Reset by the receiver, before or after it is ready.
		if done, err := out.Cut(within(t), id+1, false); err != nil {
			t.Fatal(err)
		} else if done {
			t.Fatal("cut to a connection that is broken")
		}
		for event(t, out).Kind != output.NextFailed {
		}
	}
	lastCut(t, out, 9)
	for {
		if e := event(t, out); e.Kind == output.Confirmed {
			break
		} else if e.Kind == output.Failed {
			t.Fatal(e.Err)
		}
	}
	wantNumbers(t, log, 50)
}

func TestConnectErrors(t *testing.T) {
	in, _ := start(t, gelftest.Options{})
	in.RefuseNew()
	out := output.NewTCP(output.TCPOptions{Address: in.Addr("tcp")})
	err := out.Connect(within(t))
	if err == nil || !strings.Contains(err.Error(), "connect to "+in.Addr("tcp")) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	if err := out.Send(within(t), frames(0, 1)); err == nil {
		t.Error("Send without a connection succeeds")
	}
	if _, err := out.Cut(within(t), 1, true); err == nil {
		t.Error("Cut without a connection succeeds")
	}
	out.Abort()
}

// Abort at every stage leaves no goroutine (see TestMain) and no connection, and
// Connect works again after it.
func TestAbortAtEveryStage(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stage func(*testing.T, *gelftest.Input, *output.TCP)
	}{
		{"connected", func(*testing.T, *gelftest.Input, *output.TCP) {}},
		{"sent", func(t *testing.T, _ *gelftest.Input, out *output.TCP) { send(t, out, frames(0, 100)) }},
		{"stalled", func(t *testing.T, in *gelftest.Input, out *output.TCP) {
			in.Stall()
			ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
			defer cancel()
			for out.Send(ctx, frames(0, 5000)) == nil {
			}
		}},
		{"dialing", func(t *testing.T, _ *gelftest.Input, out *output.TCP) {
			if _, err := out.Cut(within(t), 1, false); err != nil {
				t.Fatal(err)
			}
		}},
		{"next ready", func(t *testing.T, _ *gelftest.Input, out *output.TCP) {
			if _, err := out.Cut(within(t), 1, false); err != nil {
				t.Fatal(err)
			}
			want(t, out, output.NextReady)
		}},
		{"cut", func(t *testing.T, in *gelftest.Input, out *output.TCP) {
			if _, err := out.Cut(within(t), 1, false); err != nil {
				t.Fatal(err)
			}
			want(t, out, output.NextReady)
			in.Stall()
			send(t, out, frames(0, 100))
			cut(t, out, 1)
			send(t, out, frames(0, 100))
		}},
		{"last cut", func(t *testing.T, in *gelftest.Input, out *output.TCP) {
			in.Stall()
			send(t, out, frames(0, 100))
			lastCut(t, out, 1)
		}},
		{"events not received", func(t *testing.T, in *gelftest.Input, out *output.TCP) {
			for id := range uint64(3) {
				send(t, out, frames(0, 1))
				cut(t, out, id+1)
				want(t, out, output.Confirmed)
			}
			send(t, out, frames(0, 1))
			in.Reset()
		}},
		{"failed", func(t *testing.T, in *gelftest.Input, out *output.TCP) {
			killed := in.KillAfter(1)
			send(t, out, frames(0, 1))
			<-killed
			want(t, out, output.Failed)
		}},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", tt.name, secure), func(t *testing.T) {
				var o gelftest.Options
				var client output.TCPOptions
				if secure {
					keys := newKeys(t)
					o.TLS, client.TLS = keys.server(), always(keys.client())
				}
				in, _ := start(t, o)
				client.Address = in.Addr("tcp")
				out := connect(t, client)
				for range 2 {
					if err := in.WaitConns(within(t), 1); err != nil {
						t.Fatal(err)
					}
					tt.stage(t, in, out)
					out.Abort()
					in.Resume()
					select {
					case e := <-out.Events():
						t.Errorf("event %+v after Abort", e)
					default:
					}
					if err := out.Connect(within(t)); err != nil {
						t.Fatal(err)
					}
				}
				out.Abort()
				wantNoConnection(t, in)
			})
		}
	}
}

// wantNoConnection waits until the receiver has seen the end of all connections.
func wantNoConnection(t *testing.T, in *gelftest.Input) {
	t.Helper()
	ctx := within(t)
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		open, _ := in.Conns()
		if open == 0 {
			tick.Stop()
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d connections are open", open)
		}
	}
}
