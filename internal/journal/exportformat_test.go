package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"sidecar/internal/journal"
)

const exportCursor = "__CURSOR=s=" + boot1 + ";i=1f;b=" + boot2 + ";m=a;t=64c0;x=ff\n"

// parseExport returns the entries of b as NAME=value, joined, with the number of
// fields that were left out.
func parseExport(b string) (entries []string, err error) {
	err = journal.ReadExport(strings.NewReader(b), func(c journal.Cursor, fields []journal.Field, damaged int) {
		s := fmt.Sprintf("%d:", c.Seqnum)
		for _, f := range fields {
			s += fmt.Sprintf(" %s", f.Data)
		}
		if damaged > 0 {
			s += fmt.Sprintf(" -%d", damaged)
		}
		entries = append(entries, s)
	})
	return entries, err
}

func binaryText(name, value string) string { return string(binaryField(nil, name, []byte(value))) }

func TestParsesTheExportFormat(t *testing.T) {
	ok := func(in string, want ...string) {
		t.Helper()
		got, err := parseExport(in)
		if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.200q: %v", in, err)
		}
		equalMessages(t, got, want)
	}
	ok("")
	ok(exportCursor+"\n", "31:")
	ok(exportCursor+"__REALTIME_TIMESTAMP=25792\n__MONOTONIC_TIMESTAMP=10\n__SEQNUM=31\n__SEQNUM_ID="+boot1+"\n_BOOT_ID="+boot2+"\nMESSAGE=a=b\n\n",
		"31: _BOOT_ID="+boot2+" MESSAGE=a=b")
	ok(exportCursor+"A=1\nA=2\nA=\n\n"+exportCursor+"B=\xff\n\n", "31: A=1 A=2 A=", "31: B=\xff")
	ok(exportCursor+binaryText("A", "x\n\ny\x00=")+binaryText("B", "")+"C=c\n\n", "31: A=x\n\ny\x00= B= C=c")
	ok(exportCursor+"=nameless\nA=1\n\n", "31: A=1 -1")

	// What one entry may hold, and one byte more, as text and as binary.
	full := strings.Repeat("x", journal.MaxEntryBytes-len(exportCursor)+1-len("A="))
	ok(exportCursor+"A="+full+"\nB=1\n\n", "31: A="+full+" -1")
	ok(exportCursor+"A="+full+"x\nB=1\n\n", "31: B=1 -1")
	ok(exportCursor+binaryText("A", full)+"B=1\n\n", "31: A="+full+" -1")
	ok(exportCursor+binaryText("A", full+"x")+"B=1\n\n", "31: B=1 -1")
}

func TestRefusesWhatIsNotTheExportFormat(t *testing.T) {
	bad := func(in string, entries int) {
		t.Helper()
		got, err := parseExport(in)
		if err == io.EOF || len(got) != entries {
			t.Errorf("%.200q: %.200q, %v", in, got, err)
		}
	}
	bad("\n", 0)
	bad("MESSAGE=without a cursor\n\n", 0)
	bad("__CURSOR=nonsense\n\n", 0)
	bad(exportCursor+"\n\n", 1)
	bad(exportCursor+"-- No entries --\n", 0)
	bad(exportCursor+"A\n"+string(binary.LittleEndian.AppendUint64(nil, 1<<63)), 0)
	bad(exportCursor+"A\n"+string(binary.LittleEndian.AppendUint64(nil, 1<<40))+"x", 0)
	bad(exportCursor+strings.TrimSuffix(binaryText("A", "x"), "\n")+"x\n", 0)
	bad(exportCursor+strings.Repeat("n", journal.MaxEntryBytes+1)+"\n\n", 0)

	// Cut off at every byte but the last.
	whole := exportCursor + "M=1\n" + binaryText("A", "x\ny") + "\n"
	for i := 1; i < len(whole); i++ {
		if got, err := parseExport(whole[:i]); len(got) > 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %q, %v", whole[:i], got, err)
		}
	}
}

// FuzzExport reads anything as export format. What is read is written again and
// must be read as the same.
func FuzzExport(f *testing.F) {
	f.Add([]byte(exportCursor + "__SEQNUM=31\n_BOOT_ID=" + boot2 + "\nMESSAGE=a\n\n" + exportCursor + "B=\xff\n\n"))
	f.Add([]byte(exportCursor + "MESSAGE=a\n" + binaryText("A", "x\n\ny\x00=") + binaryText("B", "") + "C=c\n\n"))
	f.Add([]byte(exportCursor + "A\n\xff\xff\xff\x03\x00\x00\x00\x00x\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := allocated()
		var again []byte
		var all []string
		visit := func(c journal.Cursor, fields []journal.Field, _ int) {
			again = append(append(append(again, "__CURSOR="...), c.String()...), '\n')
			s := c.String()
			for _, field := range fields {
				if len(field.Data) <= int(field.NameBytes) || field.Data[field.NameBytes] != '=' {
					t.Fatalf("field %.100q with a name of %d bytes", field.Data, field.NameBytes)
				}
				s += "\n" + string(field.Data)
				again = binaryField(again, string(field.Data[:field.NameBytes]), field.Value())
			}
			again = append(again, '\n')
			all = append(all, s)
		}
		err := journal.ReadExport(bytes.NewReader(b), visit)
		if err == nil {
			t.Fatal("no end")
		}
		if n := allocated() - before; n > 1<<20+64*uint64(len(b)) {
			t.Errorf("%d bytes allocated for %d", n, len(b))
		}
		want := all
		all = nil
		if err := journal.ReadExport(bytes.NewReader(bytes.Clone(again)), visit); err != io.EOF {
			t.Fatalf("%.500q: %v", again, err)
		}
		equalMessages(t, all, want)
	})
}
