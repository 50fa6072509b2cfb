package ship

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
)

// gapLog collects the messages about gaps.
type gapLog struct {
	mu   sync.Mutex
	sink func(gelftest.Message)
	got  []map[string]any
}

func (l *gapLog) add(m gelftest.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var fields map[string]any
	if json.Unmarshal(m.Raw, &fields) == nil && fields["_gap_reason"] != nil {
		l.got = append(l.got, fields)
		return
	}
	l.sink(m)
}

func (l *gapLog) messages() []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got
}

// TestGapsFoundAtTheEndOfIntake: what takes messages in may tell of a gap last of all.
func TestGapsFoundAtTheEndOfIntake(t *testing.T) {
	b := newBench(t, newMemory(5))
	b.state(t.TempDir())
	told := &gapLog{sink: b.got.Add}
	b.in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: told.add})
	b.options.Gaps = NewGaps(b.options.Metrics)
	b.options.Intake = []func(context.Context) error{func(ctx context.Context) error {
		<-ctx.Done()
		b.options.Gaps.Add(Gap{Reason: "syslog_backlog", Text: "datagrams came too fast", Entries: 7})
		return nil
	}}
	b.start()
	b.waitFor(5)
	b.stop()
	b.mustEnd()
	if got := told.messages(); len(got) != 1 || got[0]["_gap_entries"] != 7.0 {
		t.Errorf("told %v", got)
	}
}

// watched is a source that says when the line is done with it.
type watched struct {
	Source
	ended chan struct{}
}

func (w watched) Run(ctx context.Context) error {
	defer close(w.ended)
	return w.Source.Run(ctx)
}

// TestIntakeThatDoesNotEnd does not keep a line from stopping that has no receiver.
func TestIntakeThatDoesNotEnd(t *testing.T) {
	source := watched{newMemory(5), make(chan struct{})}
	b := newBench(t, source)
	b.state(t.TempDir())
	b.in.RefuseNew()
	b.options.StopTimeout = 50 * time.Millisecond
	end := make(chan struct{})
	b.options.Intake = []func(context.Context) error{func(context.Context) error {
		<-end
		return nil
	}}
	b.start()
	b.stop()
	select {
	case <-source.ended:
	case <-within(t).Done():
		t.Error("the line goes on")
	}
	close(end)
	b.mustEnd()
}

// TestGapsAreToldUntilConfirmed: the message of a gap comes again with the same id
// when the connection fails, and no more once it is confirmed.
func TestGapsAreToldUntilConfirmed(t *testing.T) {
	source := newMemory(5)
	b := newBench(t, source)
	b.state(t.TempDir())
	told := &gapLog{sink: b.got.Add}
	b.in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: told.add})
	b.options.Gaps = NewGaps(b.options.Metrics)
	b.change = func(l *Line) { l.cutAge = 50 * time.Millisecond }
	b.in.NeverEOF(true) // confirms nothing
	line := b.start()
	b.options.Gaps.Add(Gap{Reason: "missing_entries", Text: "entries were removed", Entries: 1234, Path: "/j/a.journal",
		After: 7, Before: 1242, TimeUsec: 1_790_000_000_000_000})
	source.wake()
	until(t, "the gap is told", func() bool { return len(told.messages()) == 1 })
	b.in.NeverEOF(false)
	b.in.Reset()
	until(t, "the gap is told again", func() bool { return len(told.messages()) == 2 })
	until(t, "it is confirmed", func() bool { return line.Gaps.waiting() == 0 })
	b.in.Reset()
	b.options.Gaps.Add(Gap{Reason: "suppressed", Text: "messages were suppressed", Entries: 1, Unit: "shop.service"})
	source.wake()
	until(t, "the next gap is told", func() bool { return len(told.messages()) == 3 })
	b.stop()
	b.mustEnd()
	got := told.messages()
	for name, want := range map[string]any{"short_message": "entries were removed: 1234 entries", "_gap_reason": "missing_entries",
		"_gap_entries": 1234.0, "_gap_path": "/j/a.journal", "_gap_after": 7.0, "_gap_before": 1242.0, "level": 4.0, "timestamp": 1.79e9, "host": "h"} {
		if got[0][name] != want {
			t.Errorf("%s is %v, want %v", name, got[0][name], want)
		}
	}
	if got[0]["_event_id"] != got[1]["_event_id"] || got[0]["_event_id"] == got[2]["_event_id"] {
		t.Errorf("ids %v, %v, %v", got[0]["_event_id"], got[1]["_event_id"], got[2]["_event_id"])
	}
	if got[2]["short_message"] != "messages were suppressed: 1 entry" || got[2]["_service_name"] != "shop.service" || got[2]["_gap_path"] != nil {
		t.Errorf("second gap: %v", got[2])
	}
	if counts := gather(t, line.Metrics); counts["gaps_total,missing_entries"] != 1 || counts["gap_entries_total,missing_entries"] != 1234 {
		t.Errorf("counted %v", counts)
	}
}

// waiting returns how many gaps are not committed.
func (g *Gaps) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.list)
}

// TestGapsOfTheReplayWindowComeAgain: a receiver that loses what it has confirmed is
// told of gaps again, as of entries.
func TestGapsOfTheReplayWindowComeAgain(t *testing.T) {
	source := newMemory(5)
	b := newBench(t, source)
	b.state(t.TempDir())
	told := &gapLog{sink: b.got.Add}
	b.in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: told.add})
	b.options.Gaps = NewGaps(b.options.Metrics)
	b.options.ReplayWindow = time.Hour
	b.change = func(l *Line) { l.cutAge = time.Millisecond }
	line := b.start()
	b.options.Gaps.Add(Gap{Reason: "suppressed", Text: "messages were suppressed", Keep: true})
	source.wake()
	until(t, "the gap is told", func() bool { return len(told.messages()) == 1 })
	until(t, "all is confirmed", func() bool { return line.Metrics.confirmedBytes.Load() == line.Metrics.sentBytes.Load() })
	if line.Gaps.waiting() != 1 {
		t.Error("it is forgotten within the window")
	}
	b.in.Reset()
	until(t, "the gap is told again", func() bool { return len(told.messages()) == 2 })
	b.stop()
	b.mustEnd()
	if got := told.messages(); got[0]["_event_id"] != got[1]["_event_id"] {
		t.Errorf("ids %v, %v", got[0]["_event_id"], got[1]["_event_id"])
	}
}

func TestGapsOfOneFileAreOneMessage(t *testing.T) {
	g := NewGaps(NewMetrics(1))
	now := time.Unix(1_790_000_000, 0)
	for range 50 {
		g.Add(Gap{Reason: "damaged_entry", Path: "a", Entries: 2})
		g.Add(Gap{Reason: "damaged_entry", Path: "b", Entries: 1})
		g.Add(Gap{Reason: "damaged_field", Path: "a"})
	}
	// Numbered ones stay apart.
	g.Add(Gap{Reason: "missing_entries", Path: "a", Entries: 3, After: 1, Before: 5})
	g.Add(Gap{Reason: "missing_entries", Path: "a", Entries: 3, After: 6, Before: 10})
	recs := g.due(nil, now)
	if len(recs) != 5 {
		t.Fatalf("%d messages, want 5", len(recs))
	}
	for i, want := range []string{"100", "50", "", "3", "3"} {
		got := ""
		for _, f := range recs[i].Fields {
			if f.Name.String() == "gap_entries" {
				got = string(f.Value.Bytes)
			}
		}
		if got != want {
			t.Errorf("message %d: %q entries, want %q", i, got, want)
		}
	}
	// What is sent does not change any more.
	g.Add(Gap{Reason: "damaged_entry", Path: "a", Entries: 2})
	if again := g.due(nil, now); len(again) != 1 || string(again[0].ID) == "" {
		t.Errorf("%d messages", len(again))
	}
	g.commit(6)
	if len(g.list) != 0 || g.sent != 0 {
		t.Errorf("left: %+v", g.list)
	}
}

func TestGapsAreBounded(t *testing.T) {
	g := NewGaps(NewMetrics(1))
	for i := range 5000 {
		g.Add(Gap{Reason: []string{"suppressed", "damaged_entry"}[i%2], Unit: fmt.Sprint(i), Entries: 1})
	}
	total := uint64(0)
	for _, m := range g.list {
		total += m.Entries
	}
	if len(g.list) != maxGaps || total != 5000 {
		t.Errorf("%d gaps of %d entries", len(g.list), total)
	}
	for _, r := range g.due(nil, time.Unix(1, 0)) {
		if !strings.HasPrefix(string(r.ID), "gap-") || len(r.ID) != 20 {
			t.Fatalf("id %q", r.ID)
		}
	}
}
