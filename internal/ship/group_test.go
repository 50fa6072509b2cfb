package ship

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// nodes returns a group over two receivers, b's and another one, and what the
// first answers when it is asked for its state.
func nodes(t *testing.T, b *bench) (g *output.Group, other *gelftest.Input, got *gelftest.Log, status *atomic.Int64) {
	t.Helper()
	status = new(atomic.Int64)
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(server.Close)
	got = gelftest.NewLog("message", "event_id", "seq")
	other = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: got.Add})
	target := func(in *gelftest.Input, url string) output.Target {
		return output.Target{Name: in.Addr("tcp"), Output: output.NewTCP(output.TCPOptions{Address: in.Addr("tcp")}), LBStatus: url}
	}
	g = output.NewGroup(output.GroupOptions{Targets: []output.Target{target(b.in, server.URL), target(other, "")}, LBEvery: time.Millisecond})
	b.change = func(l *Line) { l.Output, l.cutAge = g, 20*time.Millisecond }
	return g, other, got, status
}

func TestNothingIsReadOnHold(t *testing.T) {
	s := newMemory(10)
	b := newBench(t, s)
	b.state(t.TempDir())
	g, _, _, status := nodes(t, b)
	status.Store(http.StatusTooManyRequests)
	line := b.start()
	until(t, "hold", func() bool { return g.Status().Held })
	until(t, "wait", func() bool { return Phase(line.Metrics.phase.Load()) == PhaseWaiting })
	for range 10 { // each wakes the line
		s.grow(1)
		until(t, "be awake", func() bool { return len(s.ready) == 0 })
	}
	if n, _ := s.Lag(time.Now()); n != 20 {
		t.Errorf("%d of 20 entries wait", n)
	}
	status.Store(http.StatusOK)
	b.waitFor(20)
	b.stop()
	b.mustEnd()
	check(t, b.got, 20, true)
}

// A line with nothing to send lets the output go to another receiver all the same.
func TestAQuietLineLeaves(t *testing.T) {
	s := newMemory(10)
	b := newBench(t, s)
	b.state(t.TempDir())
	g, other, got, status := nodes(t, b)
	b.start()
	until(t, "confirm", func() bool { return b.options.Metrics.Status(time.Now()).Confirmed == 10 })
	status.Store(http.StatusServiceUnavailable)
	until(t, "leave", func() bool { return g.Status().Target == other.Addr("tcp") && !g.Status().Held })
	s.grow(10)
	if err := got.WaitFor(within(t), 10); err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.mustEnd()
	check(t, b.got, 10, true)
	if first := got.Messages()[0].Values[0]; len(got.Messages()) != 10 || first != "10" {
		t.Errorf("%d messages, from %s", len(got.Messages()), first)
	}
}

// What only a kernel has confirmed is sent again after a failure.
func TestWhatAKernelConfirmsIsKept(t *testing.T) {
	s := newMemory(10)
	b := newBench(t, s)
	b.state(t.TempDir())
	b.change = func(l *Line) {
		l.Output = output.NewTCP(output.TCPOptions{Address: b.in.Addr("tcp"), Ack: output.AckKernel})
		l.cutAge = time.Millisecond
	}
	b.start()
	confirmed := func(n uint64) func() bool {
		return func() bool { return b.options.Metrics.Status(time.Now()).Confirmed == n }
	}
	until(t, "confirm", confirmed(10))
	if err := b.in.WaitConns(within(t), 1); err != nil {
		t.Fatal(err)
	}
	b.in.Reset()
	until(t, "confirm again", confirmed(20))
	b.stop()
	b.mustEnd()
	if again := check(t, b.got, 10, true); again != 10 {
		t.Errorf("%d messages came again", again)
	}
	if s.committed != 0 {
		t.Errorf("%d entries are committed", s.committed)
	}
}
