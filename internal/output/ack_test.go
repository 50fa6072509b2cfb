package output_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A receiver that takes bytes, and never ends the stream, is confirmed by its kernel.
func TestKernelAcknowledgement(t *testing.T) {
	k := newKeys(t)
	for _, secure := range []bool{false, true} {
		var o gelftest.Options
		to := output.TCPOptions{Ack: output.AckKernel, CloseTimeout: time.Minute}
		if secure {
			o.TLS, to.TLS = k.server(), always(k.client())
		}
		in, log := start(t, o)
		in.NeverEOF(true)
		to.Address = in.Addr("tcp")
		out := connect(t, to)
		for id := range uint64(3) {
			send(t, out, frames(int(id)*10, int(id)*10+10))
			cut(t, out, id+1)
			if e := want(t, out, output.Confirmed); e.Cut != id+1 || e.Ack != output.AckKernel {
				t.Fatalf("got %+v", e)
			}
		}
		if err := log.WaitFor(within(t), 30); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, log, 30)
		if _, n := in.Conns(); n != 1 {
			t.Errorf("%d connections: messages could overtake others", n)
		}
	}
}

// What the peer's kernel has not taken is not confirmed.
func TestKernelAcknowledgementWaits(t *testing.T) {
	for _, last := range []bool{false, true} {
		kernelAcknowledgementWaits(t, last)
	}
}

func kernelAcknowledgementWaits(t *testing.T, last bool) {
	in, log := start(t, gelftest.Options{})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), Ack: output.AckKernel, CloseTimeout: 300 * time.Millisecond})
	in.Stall()
	sent := 0
	for all := frames(0, 2000); ; sent++ { // until the kernels hold all they can
		if err := out.Send(withinShort(t), all); err != nil {
			break
		}
	}
	if done, err := out.Cut(within(t), 1, last); done && err == nil {
		wantFailed(t, out, map[bool]string{false: "nothing acknowledged", true: "no progress"}[last])
	}
	in.Resume()
	if len(log.Messages()) >= sent*2000 {
		t.Error("the receiver had taken all")
	}
}

// withinShort returns a context for a step that is to hang.
func withinShort(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestNoAcknowledgement(t *testing.T) {
	in, log := start(t, gelftest.Options{})
	in.NeverEOF(true)
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), Ack: output.AckNone})
	send(t, out, frames(0, 10))
	lastCut(t, out, 1)
	if e := want(t, out, output.Confirmed); e.Ack != output.AckNone {
		t.Errorf("got %+v", e)
	}
	if err := log.WaitFor(within(t), 10); err != nil {
		t.Fatal(err)
	}
}

// auto returns an output that finds out what confirms, and its log.
func auto(t *testing.T, address string) (*output.TCP, *lines) {
	log := new(lines)
	out := output.NewTCP(output.TCPOptions{Address: address, Ack: output.AckAuto,
		CloseTimeout: 60 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(out.Abort)
	return out, log
}

// The probe at the start finds a proxy that swallows the half-close.
func TestProbeFindsThatNoEndComesBack(t *testing.T) {
	in, received := start(t, gelftest.Options{})
	in.NeverEOF(true)
	out, log := auto(t, in.Addr("tcp"))
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	out.Abort() // the next probe tells
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := within(t); log.String() == ""; {
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatal("not found out")
		}
	}
	send(t, out, frames(0, 1))
	cut(t, out, 1)
	if e := want(t, out, output.Confirmed); e.Ack != output.AckKernel {
		t.Errorf("got %+v", e)
	}
	if n := strings.Count(log.String(), "no end of stream comes back"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, log)
	}
	if err := received.WaitFor(within(t), 1); err != nil {
		t.Fatal(err)
	}
}

// Time-outs find it when the probe does not, but not two of them.
func TestTimeoutsFindThatNoEndComesBack(t *testing.T) {
	in, _ := start(t, gelftest.Options{})
	out, log := auto(t, in.Addr("tcp"))
	round := func() output.Event {
		t.Helper()
		out.Abort()
		if err := out.Connect(within(t)); err != nil {
			t.Fatal(err)
		}
		send(t, out, frames(0, 1))
		lastCut(t, out, 1)
		return event(t, out)
	}
	works := func() {
		t.Helper()
		in.NeverEOF(false)
		if e := round(); e.Kind != output.Confirmed || e.Ack != output.AckHalfClose {
			t.Fatalf("got %+v", e)
		}
		awaitProbe(t, out) // it has to see an end of stream, or it would tell
		in.NeverEOF(true)
	}
	works()
	for range 2 {
		if e := round(); e.Kind != output.Failed {
			t.Fatalf("got %+v", e)
		}
	}
	works() // they were not in a row
	for range 3 {
		if e := round(); e.Kind != output.Failed {
			t.Fatalf("got %+v", e)
		}
	}
	if e := round(); e.Kind != output.Confirmed || e.Ack != output.AckKernel {
		t.Fatalf("got %+v", e)
	}
	if !strings.Contains(log.String(), "ack_mode=kernel") {
		t.Errorf("log is %q", log)
	}
}

// awaitProbe connects until a probe has come to its end.
func awaitProbe(t *testing.T, out *output.TCP) {
	t.Helper()
	deadline := within(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for out.ProbeDue() {
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatal("no probe came to its end")
		}
	}
}

// A proxy accepts connections for a receiver that is down, and closes them.
func TestConnectionsThatCloseAtOnceAreAProxys(t *testing.T) {
	in, _ := start(t, gelftest.Options{})
	proxy, err := net.Listen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := proxy.Accept()
			if err != nil {
				return
			}
			if up, err := net.Dial("tcp", in.Addr("tcp")); err == nil {
				io.Copy(up, c)
				up.Close() // both sides, as nginx
			} else {
				// Not before a message could have come.
				c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				c.Read(make([]byte, 1<<10))
			}
			c.Close()
		}
	}()
	defer func() { proxy.Close(); <-ended }()
	in.RefuseNew()
	out, log := auto(t, proxy.Addr().String())
	for deadline := within(t); !strings.Contains(log.String(), "a proxy or load balancer"); {
		if deadline.Err() != nil {
			t.Fatal("not found out")
		}
		if err := out.Connect(within(t)); err == nil {
			// As the line does with messages that wait, which hides how it began.
			if err := out.Send(within(t), frames(0, 1)); err == nil {
				want(t, out, output.Failed)
			}
		}
		out.Abort()
	}
	if err := in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	send(t, out, frames(0, 1))
	lastCut(t, out, 1)
	if e := want(t, out, output.Confirmed); e.Ack != output.AckKernel {
		t.Errorf("got %+v", e)
	}
}

// A receiver that refuses, or breaks, connections with messages is not a proxy.
func TestBrokenConnectionsAreNotAProxys(t *testing.T) {
	in, _ := start(t, gelftest.Options{})
	out, log := auto(t, in.Addr("tcp"))
	for range 4 {
		if err := out.Connect(within(t)); err != nil {
			t.Fatal(err)
		}
		send(t, out, []byte("\x00")) // Graylog closes (Graylog rule R14)
		if e := event(t, out); e.Kind != output.Failed {
			t.Fatalf("got %+v", e)
		}
		out.Abort()
	}
	in.RefuseNew()
	for range 4 {
		if err := out.Connect(within(t)); err == nil {
			t.Fatal("connected")
		}
	}
	if log.String() != "" {
		t.Errorf("log is %s", log)
	}
}
