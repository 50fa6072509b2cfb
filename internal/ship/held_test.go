package ship

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/deadletter"
	"sidecar/internal/gelf"
	"sidecar/internal/output"
	"sidecar/internal/parse"
)

// prompt is an output that takes all of a batch or nothing, and knows it when Send
// returns.
type prompt struct {
	events chan output.Event
	send   func(frames []byte) error
	sends  int // since the last cut
	most   int // the most sends between two cuts
}

func newPrompt(send func(frames []byte) error) *prompt {
	return &prompt{events: make(chan output.Event, 1), send: send}
}

func (p *prompt) Connect(context.Context) error { return nil }
func (p *prompt) Events() <-chan output.Event   { return p.events }

func (p *prompt) Send(_ context.Context, frames []byte) error {
	if err := p.send(frames); err != nil {
		return err
	}
	p.sends++
	p.most = max(p.most, p.sends)
	return nil
}

func (p *prompt) Taken() bool { return true }

func (p *prompt) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	p.sends = 0
	p.events <- output.Event{Kind: output.Confirmed, Cut: id}
	return true, nil
}

func (p *prompt) Abort() {
	p.sends = 0
	for len(p.events) > 0 {
		<-p.events
	}
}

// promptLine returns a line from source to out, and its logs.
func promptLine(source Source, out output.Output) (*Line, *logs) {
	text := new(logs)
	return New(Options{Sources: []Source{source}, Output: out, Log: slog.New(slog.NewTextHandler(text, nil)), Metrics: NewMetrics(100),
		Pipeline: Pipeline{Parser: parse.New(parse.Options{}), GELF: gelf.Options{Host: "h"}}}), text
}

// TestTakenIsCutAtOnce: a failure makes no more come again than what failed.
func TestTakenIsCutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newMemory(50_000)
		source.ends = true
		var taken, refused []byte
		calls := 0
		out := newPrompt(func(frames []byte) error {
			if calls++; calls%7 == 0 && calls < 1000 {
				refused = append(refused, frames...)
				return errBroken
			}
			taken = append(taken, frames...)
			return nil
		})
		line, _ := promptLine(source, out)
		if err := line.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(taken, []byte{0}); n != 50_000 {
			t.Errorf("%d messages are taken, want each once", n)
		}
		if len(refused) == 0 || out.most != 1 {
			t.Errorf("%d bytes are refused; up to %d sends before a cut, want 1", len(refused), out.most)
		}
	})
}

// TestHeld: a receiver that says how long to wait is left alone for so long, without
// the watchdog; what nobody but a person can mend is said once, and in the status; the
// messages are not suspected.
func TestHeld(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		source := newMemory(10)
		source.ends = true
		var mu sync.Mutex
		var at []time.Time // guarded by mu
		wait := []time.Duration{0, 17 * time.Second, 40 * time.Second, 40 * time.Second, 3 * time.Minute, 0}
		out := newPrompt(func([]byte) error {
			mu.Lock()
			defer mu.Unlock()
			if at = append(at, time.Now()); len(at) <= len(wait) {
				after := wait[len(at)-1]
				return &output.Held{After: after, Operator: after == 40*time.Second, Err: errors.New("answer 401")}
			}
			return nil
		})
		line, logs := promptLine(source, out)
		line.DeadLetters = &deadletter.File{Path: filepath.Join(dir, "dlq.jsonl"), MaxBytes: 1 << 20}
		done := make(chan error, 1)
		go func() { done <- line.Run(t.Context()) }()
		refused := false
		for ended := false; !ended; {
			select {
			case err := <-done:
				if ended = true; err != nil {
					t.Fatal(err)
				}
			case <-time.After(time.Second):
				s := line.Metrics.Status(time.Now())
				if !s.Alive {
					t.Fatalf("not alive while %s", s.Phase)
				}
				mu.Lock()
				sent := len(at)
				mu.Unlock()
				if sent <= len(wait) && (s.Refused != "") != (sent > 2) {
					t.Errorf("refused is %q after %d attempts", s.Refused, sent)
				}
				refused = refused || s.Refused == "answer 401"
			}
		}
		for i, after := range wait {
			if got := at[i+1].Sub(at[i]); got < after || got > after+backoffCap {
				t.Errorf("%v between attempt %d and the next, want %v", got, i, after)
			}
		}
		if !refused || line.Metrics.Status(time.Now()).Refused != "" {
			t.Error("the status does not tell the refusal, or tells it for ever")
		}
		for text, want := range map[string]int{"output failed": 1, "receiver refuses": 1, "output works again": 1} {
			if n := logs.count(text); n != want {
				t.Errorf("%q is logged %d times", text, n)
			}
		}
		if line.deaths != 0 || line.window != 0 {
			t.Error("a message is suspected")
		}
	})
}

// TestBatchFollowsTheReceiver: the line is back from Send in about a second.
func TestBatchFollowsTheReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newMemory(20_000)
		source.ends = true
		perFrame := 20 * time.Millisecond
		var sizes []int
		out := newPrompt(func(frames []byte) error {
			sizes = append(sizes, len(frames))
			n := bytes.Count(frames, []byte{0})
			if took := time.Duration(n) * perFrame; len(sizes) > 3 && took > 2*sendTime {
				t.Errorf("batch %d takes %v", len(sizes), took)
			}
			time.Sleep(time.Duration(n) * perFrame) // of the test's clock
			if len(sizes) == 100 {
				perFrame = 0
			}
			return nil
		})
		line, _ := promptLine(source, out)
		if err := line.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		largest := slices.Max(sizes[100:])
		if largest < batchBytes {
			t.Errorf("batches of up to %d bytes for a receiver that is fast", largest)
		}
	})
}
