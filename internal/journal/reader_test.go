package journal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

// exportText returns n entries in the export format: like a machine's, with
// repeated and unique values, large, binary, empty and repeated fields.
func exportText(n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var b []byte
	boot := "0123456789abcdef0123456789abcdef"
	for i := range n {
		if i == n/2 {
			boot = "fedcba9876543210fedcba9876543210"
		}
		unit := rnd.IntN(9)
		b = fmt.Appendf(b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n", 1790000000000000+i*1000, 5000+i*1000, boot)
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
			random := make([]byte, rnd.IntN(300_000))
			for i := range random {
				random[i] = byte(rnd.Uint32())
			}
			b = binaryField(b, "RANDOM", random)
		}
		b = append(b, '\n')
	}
	return b
}

func binaryField(b []byte, name string, value []byte) []byte {
	b = append(append(b, name...), '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, value...), '\n')
}

func openDir(t testing.TB, dir string) *journal.Reader {
	t.Helper()
	r, err := journal.NewReader(journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// readExport returns everything that r has left, in the export format.
func readExport(t testing.TB, r *journal.Reader) []byte {
	t.Helper()
	var out []byte
	var e journal.Entry
	for {
		if !r.Next(&e) {
			return out
		}
		if e.Damaged > 0 {
			t.Errorf("entry %d: %d damaged fields", e.Seqnum, e.Damaged)
		}
		out = journaltest.AppendExport(out, &e, false)
	}
}

func TestReadsAsJournalctl(t *testing.T) {
	text := exportText(5000, 7)
	for _, v := range journaltest.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.journal")
			journaltest.Write(t, path, v, text)
			equalExport(t, readExport(t, openDir(t, dir)), journaltest.Export(t, path))
		})
	}
}

func equalExport(t *testing.T, got, want []byte) {
	t.Helper()
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
