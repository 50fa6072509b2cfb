package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/deadletter"
	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// letters makes a file the line's dead letters and returns it.
func (b *bench) letters() *deadletter.File {
	b.options.DeadLetters = &deadletter.File{Path: filepath.Join(b.t.TempDir(), "dlq.jsonl"), MaxBytes: 1 << 20}
	return b.options.DeadLetters
}

// wantLetters checks that the dead letters are those with these numbers.
func wantLetters(t *testing.T, f *deadletter.File, want ...int) {
	t.Helper()
	var got []string
	bad, err := f.Read(func(l deadletter.Letter) error { got = append(got, l.EventID); return nil })
	if err != nil || bad != 0 {
		t.Fatal(bad, err)
	}
	var ids []string
	for _, i := range want {
		ids = append(ids, fmt.Sprint("id-", i))
	}
	if !slices.Equal(got, ids) {
		t.Errorf("dead letters %v, want %v", got, ids)
	}
}

// numbers returns the numbers of the messages that came, each once, in the order in
// which they came first, and the reasons of the notices among them.
func numbers(log *gelftest.Log) (numbers []int, notices map[string]int) {
	notices = map[string]int{}
	seen := map[int]bool{}
	for _, m := range log.Messages() {
		i, err := strconv.Atoi(m.Values[0])
		if err != nil {
			notices[m.Values[0]]++
		} else if !seen[i] {
			seen[i] = true
			numbers = append(numbers, i)
		}
	}
	return numbers, notices
}

// resetsAt makes a receiver that resets every connection on which one of these
// messages comes, as Graylog does with a frame that it cannot take.
func (b *bench) resetsAt(bad ...int) {
	b.t.Helper()
	b.in.Close()
	var in *gelftest.Input
	ready := make(chan struct{})
	in = gelftest.Start(b.t, gelftest.Options{TCP: "127.0.0.1:0", Sink: func(m gelftest.Message) {
		<-ready
		if i, err := strconv.Atoi(m.Verdict().Message); err == nil && slices.Contains(bad, i) {
			in.Reset()
			return
		}
		b.got.Add(m)
	}})
	b.in = in
	close(ready)
}

// One frame that ends every connection does not hold up the others.
func TestFrameThatEndsConnectionsIsQuarantined(t *testing.T) {
	const n = 700
	for name, bad := range map[string][]int{"one": {377}, "first": {0}, "last": {n - 1}, "neighbours": {41, 42}, "several": {5, 300, 699}} {
		t.Run(name, func(t *testing.T) {
			source := newMemory(n)
			source.ends = true
			b := newBench(t, source)
			b.state(t.TempDir())
			b.resetsAt(bad...)
			letters := b.letters()
			b.start()
			b.mustEnd()
			got, notices := numbers(b.got)
			var want []int
			for i := range n {
				if !slices.Contains(bad, i) {
					want = append(want, i)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d messages, want %d, in order", len(got), len(want))
			}
			wantLetters(t, letters, bad...)
			if k := notices["message that the receiver does not take, kept as a dead letter: 1 entry"]; k < 1 {
				t.Errorf("notices %v", notices)
			}
			if source.committed != n {
				t.Errorf("committed %d of %d", source.committed, n)
			}
		})
	}
}

// A receiver that ends every connection for a while says nothing about the messages.
func TestReceiverThatIsNotWellQuarantinesNothing(t *testing.T) {
	const n = 500
	source := newMemory(n)
	source.ends = true
	b := newBench(t, source)
	b.state(t.TempDir())
	b.in.Close()
	var in *gelftest.Input
	ready := make(chan struct{})
	left := 60
	in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: func(m gelftest.Message) {
		<-ready
		if left > 0 {
			left--
			in.Reset()
			return
		}
		b.got.Add(m)
	}})
	b.in = in
	close(ready)
	letters := b.letters()
	b.start()
	b.mustEnd()
	if got, notices := numbers(b.got); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("%d messages of %d, notices %v", len(got), n, notices)
	}
	wantLetters(t, letters)
}

// Without room for dead letters the message holds up the others, until there is.
func TestDeadLetterThatCannotBeKept(t *testing.T) {
	const n = 20
	source := newMemory(n)
	source.ends = true
	b := newBench(t, source)
	b.state(t.TempDir())
	b.resetsAt(7)
	dir := filepath.Join(t.TempDir(), "missing")
	b.options.DeadLetters = &deadletter.File{Path: filepath.Join(dir, "dlq.jsonl"), MaxBytes: 1 << 20}
	b.start()
	until(t, "say that it cannot be kept", func() bool { return b.logs.count("cannot be kept as a dead letter") > 0 })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.mustEnd()
	if got, _ := numbers(b.got); len(got) != n-1 || slices.Contains(got, 7) {
		t.Errorf("got %v", got)
	}
	wantLetters(t, b.options.DeadLetters, 7)
}

// rejecting is an output that says which message it does not take.
type rejecting struct {
	*output.TCP
	bad string
}

func (r *rejecting) Send(ctx context.Context, frames []byte) error {
	for rest := frames; len(rest) > 0; {
		_, end := head(rest, 1)
		if identity(rest[:end]) == r.bad {
			return fmt.Errorf("send: %w", &output.Rejected{Frame: slices.Clone(rest[:end-1]), Err: errors.New("413")})
		}
		rest = rest[end:]
	}
	return r.TCP.Send(ctx, frames)
}

// A rejected message is known at once.
func TestRejectedMessageIsADeadLetter(t *testing.T) {
	const n = 1000
	source := newMemory(n)
	source.ends = true
	b := newBench(t, source)
	b.state(t.TempDir())
	letters := b.letters()
	b.change = func(l *Line) {
		l.Output = &rejecting{l.Output.(*output.TCP), "id-300"}
		l.backoff = backoff{base: time.Hour, cap: time.Hour} // there is nothing to wait for
	}
	b.start()
	b.mustEnd()
	if got, _ := numbers(b.got); len(got) != n-1 || slices.Contains(got, 300) {
		t.Errorf("%d messages", len(got))
	}
	wantLetters(t, letters, 300)
}

// A receiver that rejects everything is not well: what it rejects is not given up.
func TestReceiverThatRejectsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rejected := 0
		line, _ := promptLine(newMemory(10), newPrompt(func(frames []byte) error {
			rejected++
			_, end := head(frames, 1)
			return &output.Rejected{Frame: slices.Clone(frames[:end-1]), Err: errors.New("413")}
		}))
		letters := &deadletter.File{Path: filepath.Join(t.TempDir(), "dlq.jsonl"), MaxBytes: 1 << 20}
		line.DeadLetters = letters
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := line.Run(ctx); err == nil {
			t.Error("messages that nobody took are confirmed")
		}
		wantLetters(t, letters, 0)
		if rejected > 1000 {
			t.Errorf("%d attempts in an hour", rejected)
		}
	})
}

// Each of several rejected messages in a row is a dead letter, if others pass.
func TestRejectedInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken []byte
		source := newMemory(20)
		source.ends = true
		line, _ := promptLine(source, newPrompt(func(frames []byte) error {
			for rest := frames; len(rest) > 0; {
				_, end := head(rest, 1)
				if id := identity(rest[:end]); id == "id-3" || id == "id-4" || id == "id-5" || id == "id-9" {
					return &output.Rejected{Frame: slices.Clone(rest[:end-1]), Err: errors.New("413")}
				}
				rest = rest[end:]
			}
			taken = append(taken, frames...)
			return nil
		}))
		letters := &deadletter.File{Path: filepath.Join(t.TempDir(), "dlq.jsonl"), MaxBytes: 1 << 20}
		line.DeadLetters = letters
		if err := line.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantLetters(t, letters, 3, 4, 5, 9)
		for _, id := range []string{"id-2", "id-6", "id-19"} {
			if !bytes.Contains(taken, []byte(`"_event_id":"`+id+`"`)) {
				t.Errorf("%s is not taken", id)
			}
		}
	})
}

// moving is an output that moves to another receiver at the second Cut: it is told of
// that while a notice is on its way, and has to be given the time to connect.
type moving struct {
	*prompt
	cuts int
}

func (m *moving) Cut(ctx context.Context, id uint64, last bool) (bool, error) {
	if m.cuts++; m.cuts == 1 {
		m.events <- output.Event{Kind: output.NextReady}
		return false, nil
	}
	return m.prompt.Cut(ctx, id, last)
}

// suspecting returns a line of ten messages that sends a notice first, as it suspects
// the first of them, and its dead letters.
func suspecting(t *testing.T, out output.Output) (*Line, *deadletter.File) {
	source := newMemory(10)
	source.ends = true
	l, _ := promptLine(source, out)
	l.DeadLetters = &deadletter.File{Path: filepath.Join(t.TempDir(), "dlq.jsonl"), MaxBytes: 1 << 20}
	l.window, l.suspect, l.tries = 1, "id-0", triesAlone-1
	return l, l.DeadLetters
}

// A notice that one receiver has confirmed says nothing about the next one.
func TestNoticeIsOfOneReceiver(t *testing.T) {
	sends, taken := 0, 0
	var out *moving
	out = &moving{prompt: newPrompt(func(frames []byte) error {
		switch sends++; sends {
		case 1: // the notice
			out.events <- output.Event{Kind: output.Leave}
		case 2:
			return errBroken // by the next receiver
		default:
			taken += bytes.Count(frames, []byte{0})
		}
		return nil
	})}
	out.events = make(chan output.Event, 8)
	line, letters := suspecting(t, out)
	line.backoff = backoff{base: time.Millisecond, cap: time.Millisecond}
	if err := line.Run(within(t)); err != nil {
		t.Fatal(err)
	}
	wantLetters(t, letters)
	if taken < 10 {
		t.Errorf("%d messages are taken", taken)
	}
}

// An output that holds until it has moved gets the cut that lets it, also when a part
// of the batch is not sent.
func TestMoveOnHoldWhileSuspecting(t *testing.T) {
	taken := 0
	out := &holding{prompt: newPrompt(func(frames []byte) error { taken += bytes.Count(frames, []byte{0}); return nil })}
	out.events = make(chan output.Event, 8)
	line, _ := suspecting(t, out)
	if err := line.Run(within(t)); err != nil {
		t.Fatal(err)
	}
	if taken < 10 {
		t.Errorf("%d messages are taken", taken)
	}
}

// holding is an output that holds from the first Cut to the second.
type holding struct {
	*prompt
	cuts int
}

func (h *holding) Cut(ctx context.Context, id uint64, last bool) (bool, error) {
	switch h.cuts++; h.cuts {
	case 1:
		h.events <- output.Event{Kind: output.Hold}
		h.events <- output.Event{Kind: output.Leave}
	case 2:
		h.events <- output.Event{Kind: output.Resume}
	}
	return h.prompt.Cut(ctx, id, last)
}

func TestIdentity(t *testing.T) {
	for frame, want := range map[string]string{
		`{"short_message":",\"_event_id\":\"x\"","_event_id":"id-1","_seq":3}` + "\x00": "id-1",
		`{"short_message":"m"}` + "\x00":                                                `{"short_message":"m"}`,
		`{"short_message":"m"}`:                                                         `{"short_message":"m"}`,
	} {
		if got := identity([]byte(frame)); got != want {
			t.Errorf("%q: got %q, want %q", frame, got, want)
		}
	}
}

// What is confirmed stays in reach until the window is over.
func TestReplayWindow(t *testing.T) {
	const n = 2000
	source := newMemory(n)
	b := newBench(t, source)
	b.state(t.TempDir())
	b.options.ReplayWindow = time.Hour
	b.change = func(l *Line) { l.cutAge = time.Millisecond }
	line := b.start()
	until(t, "confirm all", func() bool { return line.Metrics.Status(time.Now()).Confirmed == n })
	if source.committed != 0 {
		t.Fatalf("committed %d", source.committed)
	}
	b.in.Reset() // the receiver's machine dies, and forgets
	b.waitFor(2 * n)
	source.end()
	b.mustEnd()
	if again := check(t, b.got, n, true); again != n {
		t.Errorf("%d came again", again)
	}
	if source.committed != 0 {
		t.Errorf("committed %d", source.committed)
	}
}

func TestTrail(t *testing.T) {
	var tr trail
	t0 := time.Unix(1000, 0)
	const window = 64 * time.Second
	for i := range 10_000 {
		now := t0.Add(time.Duration(i) * 100 * time.Millisecond)
		tr.add(State{Seq: uint64(i)}, now, window)
		state, ok := tr.take(now.Add(-window))
		if len(tr) > 2*trailSteps {
			t.Fatalf("%d positions", len(tr))
		}
		age := time.Duration(i)*100*time.Millisecond - time.Duration(state.Seq)*100*time.Millisecond
		if ok && (age < window || age > window+3*time.Second) {
			t.Fatalf("%v old", age)
		}
		if !ok && i%20 == 0 && i > 700 && len(tr) < 10 {
			t.Fatal("nothing is passed")
		}
	}
	if state, ok := tr.take(t0.Add(time.Hour)); !ok || state.Seq != 9999 || len(tr) != 0 {
		t.Errorf("%v %v %d", state.Seq, ok, len(tr))
	}
}
