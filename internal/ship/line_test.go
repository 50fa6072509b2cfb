package ship

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/gelf"
	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/parse"
	"sidecar/internal/record"
	"sidecar/internal/stdin"
)

func TestBackoffBounds(t *testing.T) {
	line := New(Options{})
	for range 200 {
		line.backoff.reset()
		for _, delay := range []time.Duration{500, 1000, 2000, 4000, 5000, 5000, 5000} {
			full := delay * time.Millisecond
			if d := line.backoff.next(); d < full/2 || d > full {
				t.Fatalf("wait %v, want %v to %v", d, full/2, full)
			}
		}
	}
	line.backoff.failures = 1 << 40
	if d := line.backoff.next(); d < backoffCap/2 || d > backoffCap {
		t.Errorf("wait %v", d)
	}
}

// The back-off ends with a confirmation, not with a connection.
func TestBackoffIsResetByAConfirmation(t *testing.T) {
	source := newMemory(10)
	b := newBench(t, source)
	b.state(t.TempDir())
	b.in.RefuseNew()
	line := b.start()
	until(t, "three failures", func() bool { return line.Metrics.failures.Load() >= 3 })
	if s := line.Metrics.Status(time.Now()); s.Connected || s.Lag != 10 || s.LagAge != 10*time.Second {
		t.Errorf("got %+v", s)
	}
	if err := b.in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	b.waitFor(10)
	b.stop()
	b.mustEnd()
	wantOnce(t, b.got, 10, true)
	if line.backoff.failures != 0 {
		t.Errorf("%d failures are counted", line.backoff.failures)
	}
	for text, want := range map[string]int{"output failed": 1, "output works again": 1} {
		if n := b.logs.count(text); n != want {
			t.Errorf("%q is logged %d times", text, n)
		}
	}
}

// A restart goes on where the state file says.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	source := newMemory(100)
	b := newBench(t, source)
	for round := range 3 {
		d := b.open(dir)
		b.start()
		b.waitFor((round + 1) * 100)
		b.stop()
		b.mustEnd()
		d.Close()
		if at := saved(t, dir); at != (round+1)*100 {
			t.Fatalf("position %d", at)
		}
		again := newMemory((round + 2) * 100)
		b.options.Sources = []Source{again}
		b.options.Metrics = NewMetrics(10)
	}
	wantOnce(t, b.got, 300, true)
}

// The start position counts: what comes between the first start and the first
// confirmation is not lost by a crash.
func TestStartPositionIsSavedAtOnce(t *testing.T) {
	dir := t.TempDir()
	source := newMemory(50)
	source.next = 20 // starts in the middle, as at the tail of a journal
	b := newBench(t, source)
	b.state(dir)
	b.in.RefuseNew()
	line := b.start()
	until(t, "a failure", func() bool { return line.Metrics.failures.Load() > 0 })
	if at := saved(t, dir); at != 20 {
		t.Errorf("position %d, want 20", at)
	}
	b.stop()
	b.mustEnd()
}

func TestStopWhileTheReceiverFails(t *testing.T) {
	for name, fault := range map[string]func(*bench){
		"down":      func(b *bench) { b.in.RefuseNew(); b.in.Reset() },
		"stalled":   func(b *bench) { b.in.Stall() },
		"never EOF": func(b *bench) { b.in.NeverEOF(true) },
	} {
		for _, kept := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", with state", false: ", without"}[kept], func(t *testing.T) {
				source := newMemory(0)
				b := newBench(t, source)
				b.options.StopTimeout = 200 * time.Millisecond
				if kept {
					b.state(t.TempDir())
				} else {
					source.message = func(int) string { return strings.Repeat("x", 1000) } // more than buffers hold
				}
				b.start()
				source.grow(10)
				b.waitFor(10)
				fault(b)
				source.grow(20_000)
				until(t, "reading goes on", func() bool { defer source.lock()(); return source.next != 10 })
				begin := time.Now()
				b.stop()
				err := b.wait()
				if d := time.Since(begin); d > 5*time.Second {
					t.Errorf("took %v", d)
				}
				if kept && err != nil {
					t.Errorf("got %v", err)
				}
				if !kept && !errors.Is(err, ErrUnconfirmed) {
					t.Errorf("got %v, want ErrUnconfirmed", err)
				}
			})
		}
	}
}

// Send blocks for long when the receiver stalls; the stop must not wait for it.
func TestStopWhileSendBlocks(t *testing.T) {
	source := newMemory(1_000_000)
	source.message = func(int) string { return strings.Repeat("x", 1000) }
	b := newBench(t, source)
	b.in.Stall()
	b.options.StopTimeout = 50 * time.Millisecond
	b.state(t.TempDir())
	b.change = func(l *Line) { l.cutBytes = 1 << 30 } // no cut, which would wait before the buffers are full
	line := b.start()
	last, since := uint64(0), time.Now()
	until(t, "Send blocks", func() bool {
		if n := line.Metrics.sentBytes.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 50*time.Millisecond && line.Metrics.Status(time.Now()).Phase == PhaseSending
	})
	b.stop()
	b.mustEnd()
}

// Entries that become no message move the position all the same, without a
// connection for each.
func TestQuietFilteredSourceMovesItsPosition(t *testing.T) {
	source := newMemory(25_000) // more than one fill
	source.message = func(int) string { return " \t" }
	dir := t.TempDir()
	b := newBench(t, source)
	b.change = func(l *Line) { l.cutAge = time.Millisecond }
	b.options.SaveEvery = time.Millisecond
	b.state(dir)
	line := b.start()
	until(t, "the first are committed", func() bool { source.wake(); return saved(t, dir) == 25_000 })
	source.grow(5)
	until(t, "the rest is committed", func() bool { source.wake(); return saved(t, dir) == 25_005 })
	b.stop()
	b.mustEnd()
	if _, n := b.in.Conns(); n > 1 {
		t.Errorf("%d connections", n)
	}
	if n := line.Metrics.cuts.Load(); n != 0 {
		t.Errorf("%d cuts", n)
	}
}

// What was read before a source's error is confirmed before the error ends the line.
func TestSourceErrorComesLast(t *testing.T) {
	source := newMemory(500)
	source.failAt = 300
	dir := t.TempDir()
	b := newBench(t, source)
	b.state(dir)
	b.start()
	if err := b.wait(); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "read memory") {
		t.Errorf("got %v", err)
	}
	wantOnce(t, b.got, 300, true)
	if at := saved(t, dir); at != 300 {
		t.Errorf("position %d", at)
	}
}

// broken is a source whose Run fails.
type broken struct{ *memory }

func (broken) Run(context.Context) error { return errBroken }

func TestRunOfASourceFails(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		b := newBench(t, broken{newMemory(0)})
		b.state(t.TempDir())
		if refuse {
			b.in.RefuseNew()
		}
		b.start()
		if err := b.wait(); !errors.Is(err, errBroken) {
			t.Errorf("got %v", err)
		}
	}
}

// While the next connection cannot be opened, the current one goes on.
func TestShippingGoesOnWithoutANextConnection(t *testing.T) {
	source := newMemory(10)
	b := newBench(t, source)
	b.change = func(l *Line) { l.cutAge = 5 * time.Millisecond }
	b.state(t.TempDir())
	line := b.start()
	b.waitFor(10)
	until(t, "the first cut", func() bool { defer source.lock()(); return source.committed == 10 })
	b.in.RefuseNew()
	for n := 10; n < 100; n += 10 {
		source.grow(10)
		b.waitFor(n + 10)
	}
	if n := line.Metrics.failures.Load(); n != 0 {
		t.Errorf("%d failures", n)
	}
	if err := b.in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	until(t, "a cut", func() bool { defer source.lock()(); return source.committed == 100 })
	b.stop()
	b.mustEnd()
	wantOnce(t, b.got, 100, true)
}

func TestSaveFailureDoesNotStopShipping(t *testing.T) {
	dir := t.TempDir()
	source := newMemory(0)
	b := newBench(t, source)
	b.change = func(l *Line) { l.cutAge = time.Millisecond }
	b.options.SaveEvery = time.Millisecond
	b.state(dir)
	line := b.start()
	source.grow(10)
	until(t, "10 are saved", func() bool { source.wake(); return saved(t, dir) == 10 })
	// As on a full disk, the temporary file cannot be written.
	blocker := filepath.Join(dir, stateName+".tmp")
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	source.grow(10)
	until(t, "several failures", func() bool { source.wake(); return line.Metrics.saveFailures.Load() >= 3 })
	b.waitFor(20)
	if at := saved(t, dir); at != 10 {
		t.Errorf("position %d, want the old one", at)
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	until(t, "20 are saved", func() bool { return saved(t, dir) == 20 })
	b.stop()
	b.mustEnd()
	for _, text := range []string{"positions cannot be saved", "positions are saved again"} {
		if n := b.logs.count(text); n != 1 {
			t.Errorf("%q is logged %d times", text, n)
		}
	}
	wantOnce(t, b.got, 20, true)
}

func TestDamagedStateStartsFromTheOldest(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateName), []byte(`{"version":1,"seq":7,`), 0o600); err != nil {
		t.Fatal(err)
	}
	source := newMemory(30)
	source.next = 20
	source.ends = true
	b := newBench(t, source)
	b.state(dir)
	b.start()
	b.mustEnd()
	wantOnce(t, b.got, 30, true)
	if b.logs.count("start from the oldest entries") != 1 {
		t.Error("not logged")
	}
}

func TestNewerStateIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, stateName)
	newer := []byte(`{"version":2,"seq":7,"tomorrow":{}}`)
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, newMemory(1))
	b.state(dir)
	b.start()
	if err := b.wait(); err == nil || !strings.Contains(err.Error(), "has version 2, this logship knows up to 1: install the newer one again") {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(newer) {
		t.Errorf("the file is %q now, %v", got, err)
	}
}

// gather returns the metrics by name and labels.
func gather(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(m); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, series := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "logship_")
			for _, l := range series.Label {
				name += "," + l.GetValue()
			}
			values[name] = series.GetCounter().GetValue() + series.GetGauge().GetValue()
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	source := newMemory(0)
	source.message = func(i int) string {
		switch i % 4 {
		case 1:
			return `_jsonrc:{"message":"a","level":"info"}_jsonrc:{"message":"b","level":"info"}` // two messages
		case 2:
			return `_jsonrc:{"message":"cut`
		case 3:
			return ""
		}
		return "plain"
	}
	source.unit = func(i int) string { return string(rune('a' + i%4)) }
	b := newBench(t, source)
	b.options.Metrics = NewMetrics(3)
	b.state(t.TempDir())
	b.in.Stall()
	line := b.start()
	source.grow(40)
	until(t, "they are sent", func() bool { return line.Metrics.sentBytes.Load() > 0 })
	if err := b.in.WaitConns(within(t), 1); err != nil {
		t.Fatal(err)
	}
	b.in.Reset()
	b.in.Resume()
	b.waitFor(40)
	b.stop()
	b.mustEnd()
	got := gather(t, b.options.Metrics)
	for name, want := range map[string]float64{
		"entries_read_total,memory,a": 10, "messages_sent_total,memory,a": 10, "messages_confirmed_total,memory,a": 10, "messages_resent_total,memory,a": 10,
		"entries_read_total,memory,b": 10, "messages_sent_total,memory,b": 20, "messages_confirmed_total,memory,b": 20, "messages_resent_total,memory,b": 20,
		"entries_read_total,memory,c": 10, "messages_degraded_total,truncated,memory,c": 20,
		// Beyond the limit of units. Blank entries become no message.
		"entries_read_total,memory,_other": 10, "messages_sent_total,memory,_other": 0,
		"output_sessions_total": 2, "output_failures_total": 1, "output_cuts_total": 1, "state_save_failures_total": 0,
		"output_connected": 0, "lag_entries,memory": 0, "lag_seconds,memory": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	if c := got["output_confirmed_bytes_total"]; c <= 0 || got["output_sent_bytes_total"] != 2*c {
		t.Errorf("%v bytes sent, %v confirmed", got["output_sent_bytes_total"], c)
	}
	s := line.Metrics.Status(time.Now())
	if s.Sent != 80 || s.Confirmed != 40 || s.Lag != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestGap(t *testing.T) {
	m := NewMetrics(1)
	m.Gap("vacuumed", 5)
	m.Gap("vacuumed", 7)
	got := gather(t, m)
	if got["gaps_total,vacuumed"] != 2 || got["gap_entries_total,vacuumed"] != 12 {
		t.Errorf("got %v", got)
	}
}

func TestAliveByPhase(t *testing.T) {
	for p, name := range []string{"starting", "connecting", "reading", "sending", "waiting", "backoff", "draining", "unknown"} {
		p := Phase(p)
		if p.String() != name {
			t.Errorf("%d is %s", p, p)
		}
		m := NewMetrics(1)
		m.setPhase(p)
		patience := 25 * time.Second
		if p == PhaseSending {
			patience = 90 * time.Second
		}
		now := time.Now()
		for after, want := range map[time.Duration]bool{0: true, patience - time.Second: true, patience + time.Second: false} {
			if s := m.Status(now.Add(after)); s.Alive != want || s.Phase != p {
				t.Errorf("%s after %v: %+v", p, after, s)
			}
		}
	}
}

// What the line is doing is what the phase says.
func TestPhases(t *testing.T) {
	source := newMemory(1)
	b := newBench(t, source)
	b.in.RefuseNew()
	line := b.start()
	phase := func(want Phase) func() bool { return func() bool { return Phase(line.Metrics.phase.Load()) == want } }
	until(t, "backoff", phase(PhaseBackoff))
	if err := b.in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	until(t, "waiting", phase(PhaseWaiting))
	b.in.NeverEOF(true)
	source.end()
	b.stop()
	until(t, "draining", phase(PhaseDraining))
	b.in.NeverEOF(false)
	b.mustEnd()
}

// runStdin ships a pipe without state and returns its writing end.
func runStdin(t *testing.T, o stdin.Options) (*bench, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	o.FD = int(r.Fd())
	b := newBench(t, stdin.New(o))
	return b, w
}

func TestStdinToItsEnd(t *testing.T) {
	const n = 20_000
	b, w := runStdin(t, stdin.Options{WindowBytes: 200_000})
	b.change = func(l *Line) { l.cutBytes, l.cutAge = 50_000, 20*time.Millisecond }
	b.start()
	for i := range n {
		if _, err := w.WriteString(itoa(i) + "\n"); err != nil {
			t.Fatal(err)
		}
		if i == n/2 {
			b.in.Reset() // what was not confirmed is still in the window
		}
	}
	w.Close()
	b.mustEnd()
	wantAll(t, b, n)
}

// The stop ends the intake; what was taken in is sent, although much of it was
// not read from the source yet.
func TestStdinIsDrainedOnStop(t *testing.T) {
	const n = 5000
	b, w := runStdin(t, stdin.Options{})
	b.in.RefuseNew() // lines pile up
	b.options.StopTimeout = limit
	line := b.start()
	for i := range n {
		if _, err := w.WriteString(itoa(i) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	source := b.options.Sources[0]
	until(t, "all lines are taken in", func() bool { lag, _ := source.Lag(time.Now()); return lag == n })
	until(t, "a failure", func() bool { return line.Metrics.failures.Load() > 2 })
	b.stop()
	if err := b.in.AcceptNew(); err != nil {
		t.Fatal(err)
	}
	b.mustEnd()
	wantAll(t, b, n)
}

func TestStdinWithNothingToSendStopsAtOnce(t *testing.T) {
	b, _ := runStdin(t, stdin.Options{})
	b.in.RefuseNew()
	b.options.StopTimeout = limit
	line := b.start()
	until(t, "a failure", func() bool { return line.Metrics.failures.Load() > 0 })
	b.stop()
	b.mustEnd()
}

// An input that ends without a line needs no receiver, nor does one that cannot
// be read.
func TestStdinWithoutALineEndsWithoutAReceiver(t *testing.T) {
	b, w := runStdin(t, stdin.Options{})
	b.in.RefuseNew()
	b.start()
	w.Close()
	b.mustEnd()

	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	b = newBench(t, stdin.New(stdin.Options{FD: int(dir.Fd())}))
	b.in.RefuseNew()
	b.start()
	if err := b.wait(); err == nil || !strings.Contains(err.Error(), "read stdin") {
		t.Errorf("a directory as input: %v", err)
	}
}

func TestStdinUnconfirmedAtTheEnd(t *testing.T) {
	b, w := runStdin(t, stdin.Options{})
	b.in.RefuseNew()
	b.options.StopTimeout = 50 * time.Millisecond
	line := b.start()
	if _, err := w.WriteString("lost\n"); err != nil {
		t.Fatal(err)
	}
	until(t, "a failure with the line", func() bool { return line.Metrics.failures.Load() > 0 && line.Metrics.Status(time.Now()).Lag == 1 })
	b.stop()
	if err := b.wait(); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("got %v", err)
	}
}

// A line's own field of the name makes way for the message's number, and does so
// in a replay too, which has none.
func TestALineKeepsItsOwnSeq(t *testing.T) {
	for replay, want := range map[bool][]string{
		false: {"1", "mine", "id-0", "mine too"},
		true:  {"", "mine", "id-0", "mine too"},
	} {
		source := newMemory(1)
		source.ends = true
		source.message = func(int) string { return `_jsonrc:{"message":"m","seq":"mine","event_id":"mine too"}` }
		b := newBench(t, source)
		b.got = gelftest.NewLog("seq", "seq_2", "event_id", "event_id_2")
		b.in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: b.got.Add})
		if b.options.Replay = replay; !replay {
			b.state(t.TempDir())
		}
		b.start()
		b.mustEnd()
		if got := b.got.Messages(); len(got) != 1 || !slices.Equal(got[0].Values, want) {
			t.Errorf("replay %t: got %+v, want %q", replay, got, want)
		}
	}
}

// What one entry costs must not depend on what came before.
func TestAppendDoesNotAllocate(t *testing.T) {
	line := New(Options{Sources: []Source{newMemory(0)}, Pipeline: Pipeline{Parser: parse.New(parse.Options{}), GELF: gelf.Options{Host: "h"}}, Metrics: NewMetrics(2)})
	entries := make([]record.Entry, 4)
	for i := range entries {
		entries[i] = record.Entry{Message: []byte(`_jsonrc:{"level":"info","message":"m","n":1,"o":{"a":"b"}}`), Unit: []byte{'u', byte('0' + i)}, ID: []byte("id")}
	}
	i := 0
	if n := testing.AllocsPerRun(2000, func() {
		line.append(line.intakes[0], &entries[i%len(entries)], time.Unix(1, 0))
		if i++; len(line.unsent) > batchBytes {
			line.unsent = line.unsent[:0]
		}
	}); n != 0 {
		t.Errorf("%v allocations per entry", n)
	}
}

// One huge entry does not cost its memory for ever.
func TestMemoryIsGivenBack(t *testing.T) {
	source := newMemory(1)
	source.message = func(int) string { return strings.Repeat(`_jsonrc:{"message":"`+strings.Repeat("x", 100)+`"}`, 200) }
	source.unit = func(int) string { return "u" }
	source.ends = true
	b := newBench(t, source)
	line := b.start()
	b.mustEnd()
	if n := len(b.got.Messages()); n != 200 {
		t.Errorf("%d messages", n)
	}
	if cap(line.unsent) > 4*batchBytes || line.recs != nil {
		t.Errorf("keeps %d bytes, %d records", cap(line.unsent), len(line.recs))
	}
}

func TestPositionsOfSourcesThatCannotBeResumed(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Save(&State{Version: 1, Sources: map[string]json.RawMessage{"memory": json.RawMessage(`"x"`)}}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	b := newBench(t, newMemory(1))
	b.state(dir)
	b.start()
	if err := b.wait(); err == nil || !strings.Contains(err.Error(), "resume memory") {
		t.Errorf("got %v", err)
	}
}
