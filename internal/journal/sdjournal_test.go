//go:build sdjournal

package journal_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/sdjournal"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

// openSD opens a directory with systemd's own library.
func openSD(tb testing.TB, dir string) *sdjournal.Journal {
	tb.Helper()
	j, err := sdjournal.NewJournalFromDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { j.Close() })
	if err := j.SetDataThreshold(0); err != nil { // values whole
		tb.Fatal(err)
	}
	return j
}

// equalSD compares what r has left with what j has left, and returns how many
// entries that were.
func equalSD(t *testing.T, r *journal.Reader, j *sdjournal.Journal) int {
	t.Helper()
	var e journal.Entry
	for n := 0; ; n++ {
		more, err := j.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ours := r.Next(&e); ours != (more > 0) {
			t.Fatalf("entry %d: %t, libsystemd %t", n, ours, more > 0)
		}
		if more == 0 {
			return n
		}
		want, err := j.GetEntry()
		if err != nil {
			t.Fatal(err)
		}
		if c := e.Cursor().String(); c != want.Cursor || e.RealtimeUsec != want.RealtimeTimestamp || e.MonotonicUsec != want.MonotonicTimestamp {
			t.Fatalf("entry %d is %s, in libsystemd %s", n, c, want.Cursor)
		}
		fields := map[string]string{}
		for _, f := range e.Fields {
			fields[string(f.Data[:f.NameBytes])] = string(f.Value()) // the last of repeated ones, as there
		}
		if len(fields) != len(want.Fields) {
			t.Fatalf("entry %d: %d fields, in libsystemd %d", n, len(fields), len(want.Fields))
		}
		for name, value := range want.Fields {
			if fields[name] != value {
				t.Fatalf("entry %d: %s is %.200q, in libsystemd %.200q", n, name, fields[name], value)
			}
		}
	}
}

func TestReadsAsLibsystemd(t *testing.T) {
	for _, v := range journaltest.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			n := 500
			if v.Compress == "xz" {
				n = 50 // slow to make
			}
			dir := t.TempDir()
			journaltest.Write(t, filepath.Join(dir, "x.journal"), v, exportText(n, 17, baseUsec, 1000))
			if got := equalSD(t, openDir(t, dir, nil), openSD(t, dir)); got != n {
				t.Errorf("%d entries, want %d", got, n)
			}
		})
	}
}

func TestMergesAndSeeksAsLibsystemd(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	r, j := openDir(t, dir, nil), openSD(t, dir)
	if n := equalSD(t, r, j); n != 1450 {
		t.Errorf("%d entries", n)
	}
	for _, usec := range []uint64{0, 1, 300_000, 999_999, 1_000_000, 1_700_000} {
		r.SeekTime(baseUsec + usec)
		if err := j.SeekRealtimeUsec(baseUsec + usec); err != nil {
			t.Fatal(err)
		}
		equalSD(t, r, j)
	}
	r.SeekHead()
	var e journal.Entry
	for range 700 {
		r.Next(&e)
	}
	if err := j.SeekCursor(e.Cursor().String()); err != nil {
		t.Fatal(err)
	}
	if n, err := j.Next(); n == 0 || err != nil || j.TestCursor(e.Cursor().String()) != nil {
		t.Fatalf("libsystemd does not find the cursor: %v", err)
	}
	if n := equalSD(t, r, j); n != 750 {
		t.Errorf("%d entries behind the cursor", n)
	}
}

// BenchmarkReadLibsystemd is BenchmarkRead with go-systemd, which copies each
// entry into a map.
func BenchmarkReadLibsystemd(b *testing.B) {
	const n = 50_000
	for _, v := range journaltest.Variants()[1:4] {
		dir := b.TempDir()
		journaltest.Write(b, filepath.Join(dir, "x.journal"), v, machineText(n))
		b.Run(v.Name, func(b *testing.B) {
			spent := time.Duration(0)
			for b.Loop() {
				start := cpu(b)
				j := openSD(b, dir)
				count := 0
				for ; ; count++ {
					if more, err := j.Next(); err != nil || more == 0 {
						break
					}
					if _, err := j.GetEntry(); err != nil {
						b.Fatal(err)
					}
				}
				if count != n {
					b.Fatalf("%d entries", count)
				}
				spent += cpu(b) - start
			}
			b.ReportMetric(spent.Seconds()/float64(b.N)/n*1e6, "CPU-s/M")
		})
	}
}
