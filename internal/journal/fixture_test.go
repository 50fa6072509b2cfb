package journal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

// Boots of generated entries, and their time.
const (
	boot1    = "0123456789abcdef0123456789abcdef"
	boot2    = "fedcba9876543210fedcba9876543210"
	baseUsec = 1_790_000_000_000_000
)

// exportText returns n entries in the export format: like a machine's, with
// repeated and unique values, large, binary, empty and repeated fields, of two
// boots. Times start at startUsec and rise by stepUsec.
func exportText(n int, seed, startUsec, stepUsec uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var b []byte
	for i := range n {
		usec := startUsec + uint64(i)*stepUsec
		b = appendStamp(b, usec)
		unit := rnd.IntN(9)
		b = fmt.Appendf(b, "_TRANSPORT=stdout\nPRIORITY=6\nSYSLOG_IDENTIFIER=node\n_HOSTNAME=web-01\n_PID=%d\n_SYSTEMD_UNIT=app%d.service\n", 700+unit, unit)
		b = fmt.Appendf(b, "MESSAGE=_jsonrc:{\"level\":\"info\",\"message\":\"order %d\",\"n\":%d}%s\n", rnd.Int(), i, strings.Repeat("x", rnd.IntN(900)))
		switch rnd.IntN(40) {
		case 0:
			b = append(b, "FOO=1\nFOO=2\nEMPTY=\nTAB=a\tb\n"...)
		case 1:
			b = binaryField(b, "BIN", []byte("nul \x00 newline \n esc \x1b bad \xff\xfe"))
		case 2:
			b = binaryField(b, "BIG", bytes.Repeat([]byte("0123456789abcdef"), 1<<(8+rnd.IntN(7))))
		case 3:
			b = binaryField(b, "RANDOM", randomBytes(rnd, rnd.IntN(300_000)))
		}
		b = append(b, '\n')
	}
	return b
}

// appendStamp appends the times of an entry: of boot1 in the first second after
// baseUsec, then of boot2, so that all orders of sd-journal agree.
func appendStamp(b []byte, usec uint64) []byte {
	boot, mono := boot1, usec-baseUsec+5000
	if usec >= baseUsec+1_000_000 {
		boot, mono = boot2, usec-baseUsec-1_000_000+3000
	}
	return fmt.Appendf(b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n", usec, mono, boot)
}

// plainText returns n small entries, whose message is name and number.
func plainText(name string, n int, startUsec, stepUsec uint64) []byte {
	var b []byte
	for i := range n {
		b = appendStamp(b, startUsec+uint64(i)*stepUsec)
		b = fmt.Appendf(b, "MESSAGE=%s-%d\nPRIORITY=6\n_SYSTEMD_UNIT=%s.service\n\n", name, i, name)
	}
	return b
}

func binaryField(b []byte, name string, value []byte) []byte {
	b = append(append(b, name...), '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, value...), '\n')
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// gaps collects what a reader reports. It is for one goroutine.
type gaps []journal.Gap

func (g *gaps) add(gap journal.Gap) { *g = append(*g, gap) }

// entries returns how many entries are missing for the reason, in how many reports.
func (g *gaps) entries(reason string) (entries, reports uint64) {
	for _, gap := range *g {
		if gap.Reason == reason {
			entries += gap.Entries
			reports++
		}
	}
	return entries, reports
}

func (g *gaps) total() uint64 {
	n := uint64(0)
	for _, gap := range *g {
		n += gap.Entries
	}
	return n
}

func (g *gaps) want(t *testing.T, reason string, entries, reports uint64) {
	t.Helper()
	if e, r := g.entries(reason); e != entries || r != reports || len(*g) != int(reports) {
		t.Errorf("gaps %+v, want %d of reason %s with %d entries", *g, reports, reason, entries)
	}
}

func openDir(t testing.TB, dir string, g *gaps) *journal.Reader {
	t.Helper()
	o := journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true}
	if g != nil {
		o.OnGap = g.add
	}
	return open(t, o)
}

func open(t testing.TB, o journal.Options) *journal.Reader {
	t.Helper()
	r, err := journal.NewReader(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// readExport returns everything that r has left, in the export format, one
// element for each entry.
func readExport(t testing.TB, r *journal.Reader) [][]byte {
	t.Helper()
	var out [][]byte
	var e journal.Entry
	for r.Next(&e) {
		if e.Damaged > 0 {
			t.Errorf("entry %d: %d damaged fields", e.Seqnum, e.Damaged)
		}
		out = append(out, journaltest.AppendExport(nil, &e, false))
	}
	return out
}

// messages returns the MESSAGE of everything that r has left.
func messages(r *journal.Reader) []string {
	var out []string
	var e journal.Entry
	for r.Next(&e) {
		out = append(out, string(e.Known(journal.Message)))
	}
	return out
}

func numbered(name string, from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s-%d", name, i))
	}
	return out
}

func equalMessages(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%d messages, want %d:\n got %.300q\nwant %.300q", len(got), len(want), got, want)
	}
}

func equalExport(t *testing.T, entries [][]byte, want []byte) {
	t.Helper()
	got := bytes.Join(entries, nil)
	if bytes.Equal(got, want) {
		return
	}
	g, w := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range min(len(g), len(w)) {
		if !bytes.Equal(g[i], w[i]) {
			t.Fatalf("line %d of %d:\n got %.300q\nwant %.300q", i+1, len(w), g[i], w[i])
		}
	}
	t.Fatalf("%d lines, want %d", len(g), len(w))
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// tiny makes journal files by itself: without hash tables, which readers that
// walk entries do not need, so that a test controls every byte. Values are
// deduplicated and entry arrays double, as in real ones.
type tiny struct {
	b       []byte
	compact bool
	data    map[string]uint64
	arrays  []uint64
	used    int // items of the last array
	room    int
	entries []uint64 // offsets of ENTRY objects
}

const tinyHeader = 264

func newTiny(id byte, compact bool) *tiny {
	w := &tiny{b: make([]byte, tinyHeader), compact: compact, data: map[string]uint64{}}
	copy(w.b, "LPKSHHRH")
	if compact {
		w.put32(12, 1<<4)
	}
	for i := range 16 {
		w.b[24+i], w.b[72+i] = id, id
	}
	w.put64(88, tinyHeader)
	return w
}

func (w *tiny) put32(at int, v uint32) { binary.LittleEndian.PutUint32(w.b[at:], v) }
func (w *tiny) put64(at int, v uint64) { binary.LittleEndian.PutUint64(w.b[at:], v) }
func (w *tiny) get64(at int) uint64    { return binary.LittleEndian.Uint64(w.b[at:]) }
func (w *tiny) n() int                 { return int(w.get64(152)) }

// object appends an object and returns its offset.
func (w *tiny) object(kind byte, body []byte) uint64 {
	off := len(w.b)
	w.b = append(w.b, kind, 0, 0, 0, 0, 0, 0, 0)
	w.b = binary.LittleEndian.AppendUint64(w.b, uint64(16+len(body)))
	w.b = append(w.b, body...)
	w.b = append(w.b, make([]byte, -len(w.b)&7)...)
	return uint64(off)
}

// value returns the offset of the DATA object for NAME=value.
func (w *tiny) value(field string) uint64 {
	off, ok := w.data[field]
	if !ok {
		size := 48
		if w.compact {
			size = 56
		}
		off = w.object(1, append(make([]byte, size), field...))
		w.data[field] = off
	}
	w.put64(int(off)+56, w.get64(int(off)+56)+1)
	return off
}

// add appends an entry with these fields, stamp µs after baseUsec.
func (w *tiny) add(stamp uint64, fields ...string) {
	offsets := make([]uint64, len(fields))
	for i, f := range fields {
		offsets[i] = w.value(f)
	}
	seqnum := uint64(w.n() + 1)
	body := make([]byte, 48)
	for i, v := range []uint64{seqnum, baseUsec + stamp, 1000 + stamp, 0x1111, 0x2222, seqnum * 0x9e37} {
		binary.LittleEndian.PutUint64(body[8*i:], v)
	}
	for _, off := range offsets {
		if w.compact {
			body = binary.LittleEndian.AppendUint32(body, uint32(off))
		} else {
			body = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(body, off), 0)
		}
	}
	w.link(w.object(3, body))
	w.put64(160, seqnum)
	if seqnum == 1 {
		w.put64(168, 1)
	}
	w.put64(152, seqnum)
}

// link puts the entry at off into the last entry array.
func (w *tiny) link(off uint64) {
	w.entries = append(w.entries, off)
	item := 8
	if w.compact {
		item = 4
	}
	if w.used == w.room {
		w.used, w.room = 0, max(4, 2*w.room)
		array := w.object(6, make([]byte, 8+item*w.room))
		if len(w.arrays) == 0 {
			w.put64(176, array)
		} else {
			w.put64(int(w.arrays[len(w.arrays)-1])+16, array)
		}
		w.arrays = append(w.arrays, array)
	}
	at := int(w.arrays[len(w.arrays)-1]) + 24 + item*w.used
	if w.compact {
		w.put32(at, uint32(off))
	} else {
		w.put64(at, off)
	}
	w.used++
}

// fill adds n entries whose message is name and number.
func (w *tiny) fill(name string, n int) *tiny {
	for range n {
		i := w.n()
		w.add(uint64(i), fmt.Sprintf("MESSAGE=%s-%d", name, i), "PRIORITY=6", "_SYSTEMD_UNIT="+name+".service")
	}
	return w
}

// archivedName is a name as journald gives it to a rotated file.
func archivedName(dir, name string, id byte) string {
	return filepath.Join(dir, fmt.Sprintf("%s@%032x-%016x-%016x.journal", name, id, 1, baseUsec))
}

func logTo(b *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// links returns the number of links of a file.
func links(info os.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Nlink) }
