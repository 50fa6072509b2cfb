package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// noon is a time in the middle of a day.
func noon() time.Time { return time.Date(2026, 11, 20, 12, 0, 30, 0, time.UTC) }

// tester is a *testing.T, B, F, or a *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
}

func openRing(t tester, path string) *Ring {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func put(t tester, r *Ring, at time.Time, l Level) {
	t.Helper()
	if err := r.Put(at, l); err != nil {
		t.Fatal(err)
	}
}

func counts(r *Ring, at time.Time) Counts {
	c, _ := r.Counts(DayOf(at))
	return c
}

func TestRingRemembersTheWorstOfAMinute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ring")
	r := openRing(t, path)
	for i, l := range []Level{Up, Down, Up, None, Maintenance} {
		put(t, r, noon().Add(time.Duration(i)*time.Second), l)
	}
	put(t, r, noon().Add(time.Minute), Degraded)
	put(t, r, time.Unix(-1, 0), Down)
	want := Counts{Down: 1, Degraded: 1, None: minutesOfDay - 2}
	if got := counts(r, noon()); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := openRing(t, path)
	if got := counts(again, noon()); got != want || again.Damaged() != 0 {
		t.Errorf("opened again: %v, %d damaged, want %v", got, again.Damaged(), want)
	}
	if _, ok := again.Counts(DayOf(noon()) + 1); ok {
		t.Error("there is a day that nobody wrote")
	}
	if _, ok := again.Counts(DayOf(noon()) - Days); ok {
		t.Error("a day is found by its place alone")
	}
	if info, err := os.Stat(path); err != nil || info.Size() != FileBytes {
		t.Errorf("%v, %v: want %d bytes", info.Size(), err, FileBytes)
	}
}

func TestLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ring")
	r := openRing(t, path)
	put(t, r, time.Unix(86400*100+5*60, 0), Down) // day 100 is sector 4; minute 5 is the third of byte 1
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, FileBytes)
	s := want[(Days+4)*512:][:512]
	copy(s, "hdr1\x64\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\xb4")
	binary.LittleEndian.PutUint32(s[508:], crc32.Checksum(s[:508], crc32.MakeTable(crc32.Castagnoli)))
	if !bytes.Equal(b, want) {
		t.Errorf("sector: % x", b[(Days+4)*512:][:24])
	}
}

func TestUptime(t *testing.T) {
	for _, c := range []struct {
		counts Counts
		want   float64
		ok     bool
	}{
		{Counts{None: 10, Maintenance: 5}, 0, false},
		{Counts{Up: 10}, 1, true},
		{Counts{Up: 2, Degraded: 1, Unknown: 1, None: 100, Maintenance: 7}, 0.75, true},
		{Counts{Down: 3}, 0, true},
	} {
		if got, ok := c.counts.Uptime(); got != c.want || ok != c.ok {
			t.Errorf("%v: %v, %v", c.counts, got, ok)
		}
	}
}

// TestPowerCut cuts the power in every byte of a write. The file is as it was when it
// was last synced, or as after the write, and never something else.
func TestPowerCut(t *testing.T) {
	file := make(memory, FileBytes)
	r := file.open()
	put(t, r, noon().AddDate(0, 0, -1), Up)
	put(t, r, noon(), Up)
	if err := r.Sync(); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(file)
	old := counts(r, noon())
	put(t, r, noon().Add(time.Minute), Down)
	now := counts(r, noon())
	after := bytes.Clone(file)
	first := 0
	for first < len(before) && before[first] == after[first] {
		first++
	}
	sector := first / sectorBytes * sectorBytes
	for n := range sectorBytes + 1 {
		torn := bytes.Clone(before)
		copy(torn[sector:], after[sector:][:n])
		checkCut(t, torn, n, old, now)
	}
	for n := 0; n < FileBytes; n += 4096 {
		torn := bytes.Clone(after)
		clear(torn[n : n+4096])
		checkCut(t, torn, n, old, now)
	}
}

func checkCut(t *testing.T, b memory, n int, want ...Counts) {
	t.Helper()
	r := b.open()
	if got := counts(r, noon()); got != want[0] && got != want[1] {
		t.Fatalf("cut at %d: %v, want one of %v", n, got, want)
	}
	if got := counts(r, noon().AddDate(0, 0, -1)); got[Up] != 1 {
		t.Fatalf("cut at %d: the day before is lost: %v", n, got)
	}
}

// TestKilledWriter opens a file again without closing it, as after SIGKILL, and then
// cuts the power before the first Sync.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ring")
	for i := range 5 {
		r := openRing(t, path)
		if got := counts(r, noon()); got[Up] != i {
			t.Fatalf("round %d: %v", i, got)
		}
		put(t, r, noon().Add(time.Duration(i)*time.Minute), Up)
	}
}

func TestClockIsSet(t *testing.T) {
	r := openRing(t, filepath.Join(t.TempDir(), "a.ring"))
	for d := range 90 {
		put(t, r, noon().AddDate(0, 0, -d), Down)
	}
	put(t, r, noon().Add(-time.Hour), Degraded)
	put(t, r, noon().AddDate(30, 0, 0), Up) // one wrong day
	put(t, r, noon().Add(-time.Hour), Up)   // and an hour lived twice
	put(t, r, noon(), Up)
	lost := 0
	for d := range 90 {
		if c := counts(r, noon().AddDate(0, 0, -d)); c[Down] != 1 {
			lost++
		}
	}
	if lost > 1 {
		t.Errorf("%d days were lost to one wrong day", lost)
	}
	if c := counts(r, noon()); c[Degraded] != 1 || c[Up] != 0 {
		t.Errorf("today: %v", c)
	}
}

func TestStrangeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ring")
	if err := os.WriteFile(path, make([]byte, FileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a longer file: %v", err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := openRing(t, path)
	put(t, r, noon(), Up)
	if r.Damaged() != 1 || counts(r, noon())[Up] != 1 {
		t.Errorf("a shorter file: %d damaged, %v", r.Damaged(), counts(r, noon()))
	}
}

// faulty fails on demand.
type faulty struct {
	file
	write, sync error
}

func (f *faulty) WriteAt(b []byte, off int64) (int, error) {
	if f.write != nil {
		return 0, f.write
	}
	return f.file.WriteAt(b, off)
}

func (f *faulty) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.file.Sync()
}

func TestDiskFailsForAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ring")
	r := openRing(t, path)
	f := &faulty{file: r.f}
	r.f = f
	put(t, r, noon(), Up)
	f.write = errors.New("no space")
	if err := r.Put(noon().Add(time.Minute), Down); !errors.Is(err, f.write) {
		t.Fatalf("put on a full disk: %v", err)
	}
	f.write, f.sync = nil, errors.New("input/output error")
	put(t, r, noon().Add(time.Minute), None) // nothing new, and yet it is written
	if got := counts(openRing(t, path), noon()); got[Down] != 1 {
		t.Errorf("after the disk was full: %v", got)
	}
	written := r.copy
	if err := r.Sync(); !errors.Is(err, f.sync) || r.copy != written {
		t.Errorf("sync: %v; copy %d, was %d: a copy that is not durable is left", err, r.copy, written)
	}
	if err := r.Put(noon().AddDate(0, 0, 1), Up); !errors.Is(err, f.sync) {
		t.Errorf("put on another day: %v", err)
	}
	f.sync = nil
	seq := r.seq
	if err := r.Sync(); err != nil || r.seq == seq {
		t.Errorf("sync: %v; what a failed sync may have lost is not written again", err)
	}
}

// hanging is a disk that does not answer.
type hanging struct {
	memory
	asked, answer chan struct{}
}

func (h hanging) Sync() error {
	close(h.asked)
	<-h.answer
	return nil
}

// TestDiskHangs: what is known can be read all the same.
func TestDiskHangs(t *testing.T) {
	disk := hanging{make(memory, FileBytes), make(chan struct{}), make(chan struct{})}
	r := &Ring{f: disk}
	put(t, r, noon(), Up)
	done := make(chan error)
	go func() { done <- r.Sync() }()
	<-disk.asked
	if got := counts(r, noon()); got[Up] != 1 {
		t.Errorf("%v", got)
	}
	close(disk.answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// memory is a file without a disk.
type memory []byte

func (m memory) ReadAt(b []byte, off int64) (int, error)  { return copy(b, m[off:]), nil }
func (m memory) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }
func (m memory) Sync() error                              { return nil }
func (m memory) Close() error                             { return nil }

func (m memory) open() *Ring {
	r := &Ring{f: m}
	r.load(m)
	return r
}

// TestRingIsAMap puts at any times and opens again at any time, and compares with a map.
func TestRingIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := make(memory, FileBytes)
		r := m.open()
		model := map[Day]map[int64]Level{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				r = m.open() // killed
			case 1:
				if err := r.Sync(); err != nil {
					t.Fatal(err)
				}
			default:
				at := noon().Add(time.Duration(rapid.IntRange(-48, 48).Draw(t, "minutes")*45) * time.Minute)
				l := Level(rapid.IntRange(1, levels-1).Draw(t, "level"))
				put(t, r, at, l)
				d := DayOf(at)
				if model[d] == nil {
					model[d] = map[int64]Level{}
				}
				model[d][at.Unix()/60] = max(model[d][at.Unix()/60], l)
			}
		}
		for d, minutes := range model {
			want := Counts{None: minutesOfDay - len(minutes)}
			for _, l := range minutes {
				want[l]++
			}
			if got, _ := r.Counts(d); got != want {
				t.Fatalf("day %d: %v, want %v", d, got, want)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	s := sector{day: 20000, seq: 7}
	s.minutes[0], s.minutes[1439] = Down, Up
	f.Add(s.encode())
	f.Add(make([]byte, sectorBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is set right, so that what is behind it is tried too.
		if len(b) == sectorBytes && !isZero(b) {
			binary.LittleEndian.PutUint32(b[offSum:], crc32.Checksum(b[:offSum], castagnoli))
		}
		var s sector
		err := s.decode(b)
		switch {
		case err == nil && !bytes.Equal(s.encode(), b):
			t.Errorf("% x is read as something else", b)
		case err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, errBlank):
			t.Errorf("%v", err)
		}
	})
}

func FuzzLoad(f *testing.F) {
	s := sector{day: uint32(DayOf(noon())), seq: 1<<64 - 1}
	s.minutes[3] = Down
	f.Add(s.encode(), uint(0))
	f.Add(s.encode(), uint(DayOf(noon())%Days))
	f.Fuzz(func(t *testing.T, b []byte, at uint) {
		m := make(memory, FileBytes)
		copy(m[at%(copies*Days)*sectorBytes:], b)
		r := m.open()
		put(t, r, noon(), Up)
		want := counts(r, noon())
		if want[None] == minutesOfDay {
			t.Error("the minute is not there")
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if got := counts(m.open(), noon()); got != want {
			t.Errorf("opened again: %v, want %v", got, want)
		}
	})
}
