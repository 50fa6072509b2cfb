package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sidecar/internal/journal"
	"sidecar/internal/record"
)

func at(usec int64) time.Time { return time.UnixMicro(baseUsec + usec) }

func openRange(t *testing.T, dir string, span journal.Span) *journal.Range {
	t.Helper()
	r, err := journal.NewRange(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: dir}}}}, span)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// rest returns messages and IDs of what r has left, and wants it to end.
func rest(t *testing.T, r *journal.Range) (messages, ids []string) {
	t.Helper()
	var e record.Entry
	for {
		ok, err := r.Next(&e)
		if errors.Is(err, io.EOF) {
			return messages, ids
		}
		if !ok || err != nil {
			t.Fatalf("%t, %v, want an entry or the end", ok, err)
		}
		messages, ids = append(messages, string(e.Message)), append(ids, string(e.ID))
	}
}

func TestRangeBounds(t *testing.T) {
	dir := t.TempDir()
	w := newTiny(1, true)
	for i := range uint64(10) {
		w.add(i, fmt.Sprintf("MESSAGE=%d", i))
	}
	writeFile(t, filepath.Join(dir, "system.journal"), w.b)
	for _, c := range []struct{ since, until, from, to int }{
		{0, 10, 0, 10}, {-5, 50, 0, 10}, {3, 7, 3, 7}, {3, 4, 3, 4}, {9, 10, 9, 10}, {10, 20, 0, 0}, {-2, 0, 0, 0},
	} {
		r := openRange(t, dir, journal.Span{Since: at(int64(c.since)), Until: at(int64(c.until))})
		got, _ := rest(t, r)
		var want []string
		for i := c.from; i < c.to; i++ {
			want = append(want, fmt.Sprint(i))
		}
		equalMessages(t, got, want)
	}
	if _, err := journal.NewRange(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: t.TempDir()}}}}, journal.Span{}); !errors.Is(err, journal.ErrNoJournal) {
		t.Errorf("without a journal: %v", err)
	}
}

// The clock was set back between entries: all of the span come, in the order in
// which they were written. journalctl --since finds the first time by bisection
// and shows what follows.
func TestRangeFindsEntriesBehindAClockStep(t *testing.T) {
	dir := t.TempDir()
	w := newTiny(1, true)
	for i, stamp := range []uint64{100, 500, 510, 90, 520, 101, 499, 600, 102} {
		w.add(stamp, fmt.Sprintf("MESSAGE=%d", i))
	}
	writeFile(t, filepath.Join(dir, "system.journal"), w.b)
	got, _ := rest(t, openRange(t, dir, journal.Span{Since: at(100), Until: at(500)}))
	equalMessages(t, got, []string{"0", "5", "6", "8"})
}

// What a Range delivers is what a Source has delivered, under the same IDs, also
// after it was rewound, and it ends there.
func TestRangeRepeatsASource(t *testing.T) {
	a, b := newTiny(1, true).fill("a", 3000), newTiny(2, true).fill("b", 3000)
	s := openSource(t, journal.SourceOptions{}, a, b)
	var ids []string
	var e record.Entry
	for {
		ok, err := s.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		ids = append(ids, string(e.ID))
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "system.journal"), a.b)
	writeFile(t, filepath.Join(dir, "user-1000.journal"), b.b)
	r := openRange(t, dir, journal.Span{Since: at(0), Until: at(3000)})
	position, err := r.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, got := rest(t, r); !slices.Equal(got, ids) {
			t.Fatalf("%d entries, want %d under the same IDs", len(got), len(ids))
		}
		if !r.Complete() {
			t.Error("not complete at its end")
		}
		if err := r.Rewind(position); err != nil {
			t.Fatal(err)
		}
		if r.Complete() {
			t.Error("complete at its start")
		}
	}
}

// A long run outside of the span is no end, and no wait; a stop is one.
func TestRangeEnds(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "system.journal"), newTiny(1, true).fill("a", 25_000).b)
	r := openRange(t, dir, journal.Span{Since: at(24_990), Until: at(24_992)})
	got, _ := rest(t, r)
	equalMessages(t, got, []string{"a-24990", "a-24991"})

	r = openRange(t, dir, journal.Span{Since: at(0), Until: at(100)})
	ctx, cancel := context.WithCancel(t.Context())
	var e record.Entry
	if ok, err := r.Next(&e); !ok || err != nil {
		t.Fatalf("%t, %v", ok, err)
	}
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if ok, err := r.Next(&e); ok || !errors.Is(err, io.EOF) || r.Complete() {
		t.Errorf("after the stop: %t, %v, complete %t", ok, err, r.Complete())
	}
}

// What cannot be read for now is not the end.
func TestRangeIsNotCompleteWithoutJournalctl(t *testing.T) {
	dir := t.TempDir()
	segmented := newTiny(1, true).fill("s", 3)
	segmented.b[12] |= futureFlag
	writeFile(t, filepath.Join(dir, "s.journal"), segmented.b)
	writeFile(t, filepath.Join(dir, "x.journal"), newTiny(2, true).fill("x", 3).b)
	r, err := journal.NewRange(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: dir}}, Journalctl: "false"}}, journal.Span{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, _ := rest(t, r)
	equalMessages(t, got, numbered("x", 0, 3))
	if r.Complete() {
		t.Error("complete with a file that could not be read")
	}
}

// A cursor as a start: what is behind its entry comes, of every file.
func TestStartAfterACursor(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "system.journal"), newTiny(1, true).fill("a", 9).b)
	r := openDir(t, dir, nil)
	var e journal.Entry
	for range 4 {
		if !r.Next(&e) {
			t.Fatal("no entry")
		}
	}
	s, err := journal.NewSource(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: dir}}}, Start: journal.Start{After: e.Cursor()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	equalMessages(t, sourceMessages(t, s), numbered("a", 4, 9))
}
