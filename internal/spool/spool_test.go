package spool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/record"
	"sidecar/internal/ship"
)

// small makes segments of some messages of numbered.
func small() Options { return Options{MaxBytes: 1 << 20, segmentBytes: 2000} }

var _ ship.Source = (*Source)(nil)

func TestRewindAndCommit(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", small())
	src := s.NewSource("syslog", nil)
	start, err := src.Position(nil)
	if err != nil || src.Name() != "syslog" {
		t.Fatal(src.Name(), err)
	}
	put(t, s, 1, 40, 3)
	if got := drain(t, src); !slices.Equal(got, numbers(1, 40)) {
		t.Fatalf("got %v", got)
	}
	for range 2 {
		if err := src.Rewind(start); err != nil {
			t.Fatal(err)
		}
		if got := drain(t, src); !slices.Equal(got, numbers(1, 40)) {
			t.Fatalf("again: got %v", got)
		}
	}
	held, err := src.Position([]record.Origin{{Before: 30}, {Before: 20}})
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Commit(held); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Waiting != 20 || st.Segments > 8 {
		t.Errorf("%+v", st)
	}
	if err := src.Rewind(held); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, src); !slices.Equal(got, numbers(21, 40)) {
		t.Errorf("from what is held: got %v", got)
	}
	if err := src.Rewind(start); err != nil { // what is confirmed is gone
		t.Fatal(err)
	}
	if got := drain(t, src); !slices.Equal(got, numbers(21, 40)) {
		t.Errorf("from the start: got %v", got)
	}
	for _, bad := range []string{`x`, ``, `{"spool":"00"}`, fmt.Sprintf(`{"spool":%q,"seq":41}`, s.public)} {
		if err := src.Commit(json.RawMessage(bad)); err == nil {
			t.Errorf("committed %s", bad)
		}
	}
	for _, bad := range []string{`x`, ``, `{"seq":-1}`} {
		if err := src.Rewind(json.RawMessage(bad)); err == nil {
			t.Errorf("rewound to %s", bad)
		}
	}
	// Positions of another spool, of a later time, and none stand for the oldest one
	// that is not confirmed, or the end.
	for raw, want := range map[string][]int{
		`{}`: numbers(21, 40), `{"spool":"0011223344556677","seq":30}`: numbers(21, 40),
		fmt.Sprintf(`{"spool":%q,"seq":999}`, s.public): nil,
	} {
		if err := src.Rewind(json.RawMessage(raw)); err != nil {
			t.Fatal(err)
		}
		if got := drain(t, src); !slices.Equal(got, want) {
			t.Errorf("%s: got %v", raw, got)
		}
	}
	commit(t, src)
	put(t, s, 41, 50, 10)
	if got := drain(t, src); !slices.Equal(got, numbers(41, 50)) {
		t.Errorf("got %v", got)
	}
	if st := s.Stats(); st.Lost > 0 || st.Discarded > 0 {
		t.Errorf("%+v", st)
	}
}

func TestSourceEnds(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", small())
	src := s.NewSource("stdin", nil)
	var e record.Entry
	if ok, err := src.Next(&e); ok || err != nil {
		t.Error(ok, err)
	}
	put(t, s, 1, 1, 1)
	<-src.Ready()
	s.End()
	<-src.Ready()
	if ok, err := src.Next(&e); !ok || err != nil || string(e.ID) != EventID(s.public, 1) || e.Origin.Before != 0 {
		t.Error(ok, err, e)
	}
	if ok, err := src.Next(&e); ok || !errors.Is(err, io.EOF) {
		t.Error(ok, err)
	}
}

// It ends too where numbers were left out and nothing was appended.
func TestSourceEndsAfterAKill(t *testing.T) {
	d := newMemDisk(nil)
	s := openTest(t, d, "/spool", small())
	put(t, s, 1, 3, 3)
	abandon(s)
	s = openTest(t, d, "/spool", small())
	src := s.NewSource("stdin", nil)
	if got := drain(t, src); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("got %v", got)
	}
	s.End()
	if ok, err := src.Next(new(record.Entry)); ok || !errors.Is(err, io.EOF) {
		t.Error(ok, err)
	}
}

func TestLag(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", small())
	src := s.NewSource("syslog", nil)
	now := time.Unix(1_700_000_000, 0)
	if n, age := src.Lag(now); n != 0 || age != 0 {
		t.Error(n, age)
	}
	for i := range 10 {
		if err := s.Append(t.Context(), []Message{{TimeUsec: now.Add(time.Duration(i) * time.Second).UnixMicro(), Text: numbered(uint64(i))}}); err != nil {
			t.Fatal(err)
		}
	}
	var e record.Entry
	for i := range 10 {
		if n, age := src.Lag(now.Add(time.Minute)); n != uint64(10-i) || age != time.Minute-time.Duration(i)*time.Second {
			t.Error(i, n, age)
		}
		if ok, err := src.Next(&e); !ok || err != nil || numberOf(e.Message) != i {
			t.Fatal(ok, err)
		}
	}
}

// The decoder sees the whole message, and may change the entry.
func TestDecode(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", small())
	in := Message{Text: []byte("text"), TimeUsec: -7, Priority: 0, Source: []byte("a"), Peer: []byte("b"), Transport: []byte("c"),
		Facility: []byte("d"), Host: []byte("e"), Identifier: []byte("f"), Unit: []byte("g"), PID: []byte("h")}
	if err := s.Append(t.Context(), []Message{in, {Priority: -1}}); err != nil {
		t.Fatal(err)
	}
	var seen []string
	src := s.NewSource("syslog", func(m *Message, e *record.Entry) {
		seen = append(seen, describeMessage(m))
		e.Host = []byte("decoded")
	})
	var e record.Entry
	for range 2 {
		if ok, err := src.Next(&e); !ok || err != nil || string(e.Host) != "decoded" {
			t.Fatal(ok, err, e)
		}
		if first := e.TimeUsec == in.TimeUsec; first != (string(e.Peer) == "b") {
			t.Errorf("%+v", e)
		}
	}
	if want := []string{describeMessage(&in), describeMessage(&Message{Priority: -1})}; !slices.Equal(seen, want) {
		t.Errorf("got  %v\nwant %v", seen, want)
	}
}

func describeMessage(m *Message) string {
	return fmt.Sprintf("%d %d %q", m.TimeUsec, m.Priority, [][]byte{m.Text, m.Source, m.Peer, m.Transport, m.Facility,
		m.Host, m.Identifier, m.Unit, m.PID})
}

func TestMessageLength(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", Options{})
	src := s.NewSource("syslog", nil)
	var e record.Entry
	for _, n := range []int{0, 1, MaxMessageBytes - 1, MaxMessageBytes} {
		if err := s.Append(t.Context(), []Message{{Text: make([]byte, n)}}); err != nil {
			t.Fatal(n, err)
		}
		if ok, err := src.Next(&e); !ok || err != nil || len(e.Message) != n {
			t.Errorf("%d bytes: %d, %v, %v", n, len(e.Message), ok, err)
		}
	}
	if err := s.Append(t.Context(), []Message{{}, {Text: make([]byte, MaxMessageBytes+1)}}); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
	if ok, err := src.Next(&e); ok || err != nil {
		t.Error("a part of the batch was stored", ok, err)
	}
}

// A full spool holds the writer until something is confirmed.
func TestBudgetBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := make(chan error, 10)
		o := small()
		o.MaxBytes = 20_000
		o.OnTrouble = func(err error) { said <- err }
		s := openTest(t, newMemDisk(nil), "/spool", o)
		src := s.NewSource("syslog", nil)
		n, done := 0, make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for ; ; n++ {
			if err := s.Append(ctx, []Message{{Text: numbered(uint64(n))}}); err != nil {
				if !errors.Is(err, errBudget) || !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				break
			}
		}
		st := s.Stats()
		if st.Bytes > o.MaxBytes || n < 40 || !errors.Is(st.Trouble, errBudget) || len(said) != 1 {
			t.Errorf("%d messages, %+v, said %d", n, st, len(said))
		}
		go func() { done <- s.Append(t.Context(), []Message{{Text: numbered(uint64(n))}}) }()
		synctest.Wait()
		if got := drain(t, src); !slices.Equal(got, numbers(0, n-1)) {
			t.Errorf("got %v", got)
		}
		commit(t, src)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := drain(t, src); !slices.Equal(got, []int{n}) {
			t.Errorf("got %v", got)
		}
		if <-time.After(4 * time.Second); len(said) != 1 {
			t.Error("the end of trouble is told too early")
		}
		if first, second := <-said, <-said; first == nil || second != nil {
			t.Errorf("said %v and %v", first, second)
		}
	})
}

// TestAFullSpoolSaysSoOnce, however often it has room for a moment, and says that it stores
// again when it has done so for a while.
func TestAFullSpoolSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		begin := time.Now()
		o := small()
		o.MaxBytes = 20_000
		o.OnTrouble = func(err error) { said = append(said, fmt.Sprint(time.Since(begin), " ", err)) }
		s := openTest(t, newMemDisk(nil), "/spool", o)
		src := s.NewSource("syslog", nil)
		ended := make(chan error, 1)
		go func() {
			var err error
			for n := 0; n < 1000 && err == nil; n++ {
				err = s.Append(t.Context(), []Message{{Text: numbered(uint64(n))}})
			}
			ended <- err
		}()
		for got := 0; got < 1000; {
			<-time.After(time.Second)
			got += len(drain(t, src))
			commit(t, src)
			synctest.Wait()
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		last := time.Since(begin)
		<-time.After(20 * time.Second)
		synctest.Wait()
		if len(said) != 2 || last < 10*time.Second || s.Stats().Trouble != nil {
			t.Fatalf("it was full up to %v, and said %q", last, said)
		}
		again, err := time.ParseDuration(strings.Fields(said[1])[0])
		if err != nil || again < last || again > last+6*time.Second {
			t.Errorf("it was full up to %v, and said %q", last, said)
		}
	})
}

// With DiscardOldest the writer never waits; every message is delivered or counted.
func TestDiscardOldest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	o := small()
	o.MaxBytes, o.OnFull = 20_000, DiscardOldest
	s := openTest(t, newMemDisk(rng), "/spool", o)
	src := s.NewSource("syslog", nil)
	var e record.Entry
	position, _ := src.Position(nil)
	next, unconfirmed, confirmed := 1, []int{}, map[int]bool{}
	for range 400 {
		put(t, s, next, next+rng.IntN(10), 3)
		next = int(s.Stats().Appended) + 1
		for n := rng.IntN(15); n > 0; n-- {
			if ok, err := src.Next(&e); err != nil {
				t.Fatal(err)
			} else if ok {
				unconfirmed = append(unconfirmed, numberOf(e.Message))
			}
		}
		switch rng.IntN(4) {
		case 0:
			position = commit(t, src)
			for _, n := range unconfirmed {
				confirmed[n] = true
			}
			unconfirmed = nil
		case 1:
			if err := src.Rewind(position); err != nil {
				t.Fatal(err)
			}
			unconfirmed = nil
		}
	}
	for _, n := range append(unconfirmed, drain(t, src)...) {
		confirmed[n] = true
	}
	st := s.Stats()
	if int(st.Discarded) != next-1-len(confirmed) || st.Discarded == 0 || st.Lost > 0 || st.Bytes > o.MaxBytes {
		t.Errorf("%d appended, %d delivered, %+v", next-1, len(confirmed), st)
	}
	// The next process does not take what was discarded for lost.
	s.Close()
	s = openTest(t, s.disk, "/spool", o)
	src = s.NewSource("syslog", nil)
	if drain(t, src); s.Stats().Lost > 0 {
		t.Errorf("%+v", s.Stats())
	}
}

func TestFreeSpaceFloor(t *testing.T) {
	d := newMemDisk(nil)
	o := small()
	o.MinFreeBytes, o.retryAfter = 1000, time.Hour
	d.freed = 2000
	s := openTest(t, d, "/spool", o)
	put(t, s, 1, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	s.o.OnTrouble = func(error) { cancel() }
	d.freed = 1100
	if err := s.Append(ctx, []Message{{Text: numbered(2)}}); !errors.Is(err, errFloor) {
		t.Error(err)
	}
	d.freed = 2000
	s.unhold()
	put(t, s, 3, 3, 1)
	if got := drain(t, s.NewSource("syslog", nil)); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("got %v", got)
	}
}

func TestConcurrentAppend(t *testing.T) {
	s := openTest(t, osDisk{}, t.TempDir(), Options{})
	src := s.NewSource("syslog", nil)
	defer src.Close()
	const writers, each = 8, 50
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := range each {
				if err := s.Append(t.Context(), []Message{{Text: numbered(uint64(w*each + i))}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var got []int
	for len(got) < writers*each {
		<-src.Ready()
		got = append(got, drain(t, src)...)
		commit(t, src)
	}
	wait.Wait()
	for w := range writers {
		own := slices.DeleteFunc(slices.Clone(got), func(n int) bool { return n/each != w })
		if !slices.Equal(own, numbers(w*each, w*each+each-1)) {
			t.Errorf("writer %d: %v", w, own)
		}
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, osDisk{}, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Append(t.Context(), []Message{{}}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	openTest(t, osDisk{}, dir, Options{})
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	for dir, want := range map[string]error{file: syscall.ENOTDIR, filepath.Join(file, "x"): syscall.ENOTDIR} {
		if _, err := Open(dir, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// What is not this spool's is set aside or left alone; it opens all the same.
func TestForeignFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for i, d := range []string{dir, other} {
		s := openTest(t, osDisk{}, d, small())
		put(t, s, 1, 10+10*i, 3)
		s.Close()
	}
	foreign := filepath.Join(dir, segmentName(16))
	if err := os.Rename(filepath.Join(other, segmentName(16)), foreign); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "notes.txt"), []byte("mine"))
	if err := os.Mkdir(filepath.Join(dir, segmentName(77)), 0o700); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, osDisk{}, dir, small())
	src := s.NewSource("syslog", nil)
	defer src.Close()
	if got := drain(t, src); !slices.Equal(got, numbers(1, 10)) {
		t.Errorf("got %v", got)
	}
	passes(t, s, src)
	if st := s.Stats(); st.SetAside != 1 || st.Lost > 0 {
		t.Errorf("%+v", st)
	}
	if _, err := os.Stat(foreign + ".bad"); err != nil {
		t.Error(err)
	}
	if b := readFile(t, filepath.Join(dir, "notes.txt")); string(b) != "mine" {
		t.Errorf("%q", b)
	}
}

// A segment that is removed costs its messages, which are counted.
func TestSegmentRemoved(t *testing.T) {
	d := newMemDisk(nil)
	s := openTest(t, d, "/spool", small())
	put(t, s, 1, 40, 3)
	s.Close()
	if err := d.remove("/spool/" + segmentName(7)); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, d, "/spool", small())
	src := s.NewSource("syslog", nil)
	for range 3 { // however often they are passed
		if got := drain(t, src); !slices.Equal(got, append(numbers(1, 6), numbers(10, 40)...)) {
			t.Errorf("got %v", got)
		}
		if err := src.Rewind(json.RawMessage("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Lost != 3 {
		t.Errorf("%+v", st)
	}
}

// What is appended to a lent slice does not reach the next message.
func TestLentSlices(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", Options{})
	put(t, s, 1, 100, 100)
	src := s.NewSource("syslog", nil)
	var e record.Entry
	for i := range 100 {
		if ok, err := src.Next(&e); !ok || err != nil || numberOf(e.Message) != i+1 {
			t.Fatal(i, ok, err)
		}
		_ = append(e.Message, "overwritten"...)
	}
}

// A full disk makes DiscardOldest discard, at once.
func TestDiscardOldestOnAFullDisk(t *testing.T) {
	d := newMemDisk(rand.New(rand.NewPCG(4, 4)))
	o := small()
	o.OnFull, o.retryAfter = DiscardOldest, time.Hour
	s := openTest(t, d, "/spool", o)
	src := s.NewSource("syslog", nil)
	d.fault = func(op, name string) error {
		if op == "create" && name != cursorName+".tmp" && len(d.dir["/spool"].live) > 6 {
			return syscall.ENOSPC
		}
		return nil
	}
	put(t, s, 1, 60, 3)
	got := drain(t, src)
	if st := s.Stats(); int(st.Discarded)+len(got) != 60 || len(got) < 9 || st.Lost > 0 {
		t.Errorf("got %v, %+v", got, st)
	}
}

// The numbers left out at a restart are not taken for messages when the header that
// says so is damaged.
func TestNumbersLeftOut(t *testing.T) {
	d := newMemDisk(nil)
	s := openTest(t, d, "/spool", small())
	put(t, s, 1, 3, 3)
	abandon(s)
	s = openTest(t, d, "/spool", small())
	put(t, s, 4, 6, 3)
	src := s.NewSource("syslog", nil)
	var e record.Entry
	for range 3 {
		src.Next(&e)
	}
	commit(t, src)
	s.Close()
	for name, f := range d.dir["/spool"].live {
		if name != cursorName {
			f.live[20]++
		}
	}
	s = openTest(t, d, "/spool", small())
	if got := drain(t, s.NewSource("syslog", nil)); !slices.Equal(got, numbers(4, 6)) || s.Stats().Lost > 0 {
		t.Errorf("got %v, %+v", got, s.Stats())
	}
}

// Behind an end that is not that of a closed spool numbers are left out, even if
// nothing seems to be missing: a disk may have lost, without a trace, what it said to
// be durable and what was delivered.
func TestUncleanEnd(t *testing.T) {
	d := newMemDisk(nil)
	for _, killed := range []bool{false, true, false} {
		s := openTest(t, d, "/spool", small())
		src := s.NewSource("syslog", nil)
		first := s.next
		put(t, s, 1, 9, 3)
		drain(t, src)
		commit(t, src) // saves the cursor
		if killed {
			abandon(s)
			first += skipped
		} else {
			s.Close()
		}
		if s = openTest(t, d, "/spool", small()); s.next < first+9 || !killed && s.next != first+9 {
			t.Errorf("killed %v: goes on with %d behind %d", killed, s.next, first+8)
		}
		s.Close()
	}
}

func TestLongField(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", small())
	if err := s.Append(t.Context(), []Message{{Text: []byte("text"), Host: make([]byte, 255), Unit: make([]byte, 256), PID: make([]byte, 70_000)}}); err != nil {
		t.Fatal(err)
	}
	var e record.Entry
	if ok, err := s.NewSource("syslog", nil).Next(&e); !ok || err != nil || len(e.Host) != 255 || len(e.Unit) != 255 || len(e.PID) != 255 || string(e.Message) != "text" {
		t.Error(ok, err, len(e.Host), len(e.Unit), len(e.PID))
	}
}

// After a failed sync the cursor is written to a new file.
func TestCursorSyncFails(t *testing.T) {
	d := newMemDisk(nil)
	s := openTest(t, d, "/spool", small())
	src := s.NewSource("syslog", nil)
	before := d.dir["/spool"].live[cursorName]
	put(t, s, 1, 9, 3)
	drain(t, src)
	d.fault = func(op, name string) error {
		if op == "sync" && strings.HasPrefix(name, cursorName) {
			return syscall.EIO
		}
		return nil
	}
	commit(t, src)
	if st := s.Stats(); st.Failures != 1 || st.Segments != 3 {
		t.Errorf("a segment went before the cursor: %+v", st)
	}
	d.fault = nil
	commit(t, src)
	if st := s.Stats(); st.Segments != 1 || d.dir["/spool"].live[cursorName] == before {
		t.Errorf("%+v", st)
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	s := openTest(t, newMemDisk(nil), "/spool", Options{})
	put(t, s, 1, 1000, 1000)
	src := s.NewSource("syslog", nil)
	var e record.Entry
	src.Next(&e)
	if n := testing.AllocsPerRun(500, func() { src.Next(&e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
