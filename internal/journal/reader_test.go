package journal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

func TestReadsAsJournalctl(t *testing.T) {
	for _, v := range journaltest.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			n := 1000
			if v.Compress == "xz" {
				n = 100 // slow to make
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "x.journal")
			journaltest.Write(t, path, v, exportText(n, 7, baseUsec, 1000))
			got := readExport(t, openDir(t, dir, nil))
			if len(got) != n {
				t.Errorf("%d entries, want %d", len(got), n)
			}
			equalExport(t, got, journaltest.Export(t, path))
		})
	}
}

// TestReadsEveryHeaderSize reads headers of all versions of systemd, and one of a
// version to come.
func TestReadsEveryHeaderSize(t *testing.T) {
	for _, size := range []uint64{208, 224, 240, 256, 264, 272, 304} {
		for _, v := range []journaltest.Variant{journaltest.Variants()[0], journaltest.Default()} {
			if v.Compact && size < 264 {
				continue // systemd 252 brought both
			}
			t.Run(fmt.Sprintf("%d-%s", size, v.Name), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "x.journal")
				journaltest.Write(t, path, v, exportText(300, 7, baseUsec, 1000))
				journaltest.SetHeaderSize(t, path, size)
				got := readExport(t, openDir(t, dir, nil))
				if len(got) != 300 {
					t.Errorf("%d entries", len(got))
				}
				equalExport(t, got, journaltest.Export(t, path))
			})
		}
	}
}

func TestReadsSealedFiles(t *testing.T) {
	for _, v := range journaltest.Variants()[:2] {
		t.Run(v.Name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.journal")
			later := uint64(max(time.Now().UnixMicro(), baseUsec)) + 1e6
			journaltest.WriteSealed(t, path, v, exportText(300, 7, later, 20_000))
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if tags := binary.LittleEndian.Uint64(b[224:]); b[8]&1 == 0 || tags < 6 {
				t.Errorf("flags %x, %d tags: not sealed", b[8], tags)
			}
			got := readExport(t, openDir(t, dir, nil))
			if len(got) != 300 {
				t.Errorf("%d entries", len(got))
			}
			equalExport(t, got, journaltest.Export(t, path))
		})
	}
}

// TestReadsFilesInEveryState reads what journald leaves behind: active, archived,
// and after a crash, also cut off behind the last entry.
func TestReadsFilesInEveryState(t *testing.T) {
	made := filepath.Join(t.TempDir(), "x.journal")
	journaltest.Write(t, made, journaltest.Default(), exportText(300, 7, baseUsec, 1000))
	want := journaltest.Export(t, made)
	whole, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	const archived, crashed = "system@0123456789abcdef0123456789abcdef-0000000000000001-00065bfeda25e000.journal", "system@00065bfeda25e000-0123456789abcdef.journal~"
	for _, name := range []string{"system.journal", archived, crashed} {
		for state := range byte(3) { // offline, online, archived
			t.Run(fmt.Sprintf("%.9s%d", name[6:], state), func(t *testing.T) {
				b := bytes.Clone(whole)
				b[16] = state
				if name == crashed {
					b = b[:usedBytes(t, made)]
				}
				dir := t.TempDir()
				writeFile(t, filepath.Join(dir, name), b)
				equalExport(t, readExport(t, openDir(t, dir, nil)), want)
			})
		}
	}
}

func TestReadsOddFieldsAsJournalctl(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	big := randomBytes(rnd, 12<<20)
	text := appendStamp(nil, baseUsec)
	text = append(text, "FOO=1\nFOO=2\nFOO=3\nFOO=1\nEMPTY=\nMESSAGE=\n\n"...)
	text = append(appendStamp(text, baseUsec+1), "ONLY=1\n\n"...)
	text = append(binaryField(appendStamp(text, baseUsec+2), "MESSAGE", []byte("\x00=\n\n=\xff")), '\n')
	text = append(binaryField(appendStamp(text, baseUsec+3), "BIG", big), "MESSAGE=12 MiB that cannot be compressed\n\n"...)
	text = append(binaryField(appendStamp(text, baseUsec+4), "BIG", bytes.Repeat([]byte("abcdefgh"), 12<<17)), "MESSAGE=12 MiB that can\n\n"...)
	for size := 500; size < 530; size++ { // around journald's threshold for compression
		text = fmt.Appendf(appendStamp(text, baseUsec+uint64(size)), "MESSAGE=%s\n\n", strings.Repeat("m", size))
	}
	text = append(appendStamp(text, baseUsec+1000), "UTF8=grün \u2028 \U0001f600\nC1=\u0085\nNONCHAR=\ufdd0\nDEL=\x7f\nTAB=\t\n\n"...)
	text = appendStamp(text, baseUsec+1001)
	for i := range 900 { // many fields
		text = fmt.Appendf(text, "F%d=%d\n", i, i)
	}
	text = append(text, '\n')
	for _, v := range journaltest.Variants()[1:3] {
		t.Run(v.Name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.journal")
			journaltest.Write(t, path, v, text)
			equalExport(t, readExport(t, openDir(t, dir, nil)), journaltest.Export(t, path))
		})
	}
}

func TestFirstOfRepeatedFieldsIsKnown(t *testing.T) {
	dir := t.TempDir()
	w := newTiny(1, true)
	w.add(0, "MESSAGE=first", "MESSAGE=second", "_PID=1", "_PID=")
	w.add(1, "MESSAGE=", "X=1")
	w.add(2, "X=1")
	writeFile(t, filepath.Join(dir, "x.journal"), w.b)
	r := openDir(t, dir, nil)
	var e journal.Entry
	for _, want := range []string{"first", "", ""} {
		if !r.Next(&e) || string(e.Known(journal.Message)) != want {
			t.Errorf("message %q, want %q", e.Known(journal.Message), want)
		}
	}
	if e.Known(journal.Message) != nil {
		t.Error("a message where there is none")
	}
}

// manyFiles makes a directory as machines have it: files whose times overlap, of
// two boots, some of one sequence, in different formats.
func manyFiles(t testing.TB, dir string) {
	v := journaltest.Variants()
	write := func(name string, variant int, n int, seed, start, step uint64) string {
		path := filepath.Join(dir, name+".journal")
		journaltest.Write(t, path, v[variant], exportText(n, seed, baseUsec+start, step))
		return path
	}
	// Two users beside the system, all over both boots.
	write("user-1000", 1, 300, 11, 7, 6_100)
	write("user-1001", 2, 200, 12, 500_003, 4_007)
	// The system's journal, rotated twice, then of another sequence.
	a := write("system@a", 1, 250, 13, 0, 1_003)
	b := write("system@b", 0, 250, 14, 250_753, 1_009)
	c := write("system@c", 3, 250, 15, 503_011, 4_001)
	journaltest.Continue(t, a, b)
	journaltest.Continue(t, b, c)
	write("system", 1, 200, 16, 1_600_001, 2_003)
}

func TestMergesAsJournalctl(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	got := readExport(t, openDir(t, dir, nil))
	if len(got) != 300+200+250*3+200 {
		t.Errorf("%d entries", len(got))
	}
	equalExport(t, got, journaltest.Export(t, dir))
}

func TestMergesByTimeWithinABootThoughSequencesDiffer(t *testing.T) {
	dir := t.TempDir()
	x, y := newTiny(1, false), newTiny(2, true)
	for i := range uint64(100) {
		x.add(10*i, fmt.Sprintf("MESSAGE=%d", 2*i))
		y.add(10*i+5, fmt.Sprintf("MESSAGE=%d", 2*i+1))
	}
	writeFile(t, filepath.Join(dir, "x.journal"), x.b)
	writeFile(t, filepath.Join(dir, "y.journal"), y.b)
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprint(i))
	}
	equalMessages(t, messages(openDir(t, dir, nil)), want)
}

func TestCursorsAreThoseOfJournalctl(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.journal")
	journaltest.Write(t, path, journaltest.Default(), plainText("c", 40, baseUsec, 40_000))
	all := readExport(t, openDir(t, dir, nil))
	r := openDir(t, dir, nil)
	var e journal.Entry
	for i := 0; r.Next(&e); i++ {
		if i%13 != 0 && i != 39 {
			continue
		}
		position := r.Position()
		if c, err := journal.ParseCursor(position.Cursor); err != nil || c != e.Cursor() || position.Cursor != c.String() {
			t.Fatalf("cursor %q is read as %+v, %v", position.Cursor, c, err)
		}
		equalExport(t, all[i+1:], journaltest.Export(t, path, "--after-cursor", position.Cursor))
	}
}

func TestParseCursor(t *testing.T) {
	const good = "s=" + boot1 + ";i=1f;b=" + boot2 + ";m=a;t=64c0;x=ffffffffffffffff"
	c, err := journal.ParseCursor(good)
	if err != nil || c.Seqnum != 31 || c.MonotonicUsec != 10 || c.RealtimeUsec != 25792 || c.XorHash != 1<<64-1 || c.String() != good {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := journal.ParseCursor(""); err != nil || !c.IsZero() || c.String() != "" {
		t.Errorf("empty: %+v, %v", c, err)
	}
	if c, err := journal.ParseCursor(good + ";q=later"); err != nil || c.Seqnum != 31 {
		t.Errorf("unknown key: %+v, %v", c, err)
	}
	for _, bad := range []string{
		"x", ";", "s=;i=;b=;m=;t=;x=", strings.Replace(good, "i=1f", "i=0", 1), strings.Replace(good, "i=1f", "i=-1", 1),
		strings.Replace(good, "i=1f", "i=10000000000000000", 1), strings.Replace(good, ";m=a", "", 1),
		"i=1;i=1;i=1;i=1;i=1;i=1", strings.Replace(good, "s=0", "s=g", 1), strings.Replace(good, "s=0", "s=", 1), good + ";i=2",
	} {
		if c, err := journal.ParseCursor(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, c)
		}
	}
}
