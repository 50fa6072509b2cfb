package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"sidecar/internal/journal"
)

// Flags of an object's compression (systemd JOURNAL_FILE_FORMAT).
const (
	xzObject   = 1
	lz4Object  = 2
	zstdObject = 4
)

// packers compress as systemd does, by the flag of the object.
func packers(t testing.TB) map[byte]func(string) string {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[byte]func(string) string{
		zstdObject: func(s string) string {
			e, err := zstd.NewWriter(nil)
			must(err)
			return string(e.EncodeAll([]byte(s), nil))
		},
		lz4Object: func(s string) string {
			b := make([]byte, 8+lz4.CompressBlockBound(len(s)))
			binary.LittleEndian.PutUint64(b, uint64(len(s)))
			n, err := lz4.CompressBlock([]byte(s), b[8:], nil)
			must(err)
			return string(b[:8+n])
		},
		xzObject: func(s string) string {
			var b bytes.Buffer
			w, err := xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true}.NewWriter(&b)
			must(err)
			_, err = w.Write([]byte(s))
			must(err)
			must(w.Close())
			return b.String()
		},
	}
}

// everyKind is a small file with each kind of value and an object that is none of
// the reader's business.
func everyKind(t testing.TB, compact bool) *tiny {
	w := newTiny(1, compact).fill("a", 3)
	w.object(7, make([]byte, 48)) // a TAG
	long := "=" + string(bytes.Repeat([]byte("abcdefgh"), 20))
	for flag, pack := range packers(t) {
		value := pack(string('A'+rune(flag)) + long)
		w.add(uint64(w.n()), value, "MESSAGE=x", "MESSAGE=", "PRIORITY=6")
		w.b[w.data[value]+1] = flag
	}
	return w
}

func FuzzReader(f *testing.F) {
	for _, compact := range []bool{false, true} {
		w := newTiny(1, compact).fill("a", 6)
		f.Add(w.b)
		f.Add(w.b[:len(w.b)/2])
		f.Add(everyKind(f, compact).b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.journal"), b)
		readDamaged(t, dir)
	})
}

func TestReadsEveryKindOfValue(t *testing.T) {
	for _, compact := range []bool{false, true} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.journal"), everyKind(t, compact).b)
		if got := readExport(t, openDir(t, dir, nil)); len(got) != 6 {
			t.Errorf("%d entries", len(got))
		}
	}
}

func FuzzHeader(f *testing.F) {
	w := newTiny(1, true).fill("a", 1)
	for _, change := range []func(b []byte){
		func([]byte) {}, func(b []byte) { b[12] |= futureFlag }, func(b []byte) { b[88] = 8 }, func(b []byte) { clear(b[24:40]) },
	} {
		b := bytes.Clone(w.b[:tinyHeader])
		change(b)
		f.Add(b)
	}
	f.Add(w.b[:207])
	f.Fuzz(func(t *testing.T, b []byte) {
		id, size, err := journal.ParseHeader(b)
		switch {
		case err == nil:
			if id.IsZero() || size < 208 || size > 64<<10 || len(b) < 208 || string(b[:8]) != "LPKSHHRH" || b[12]&^0x1f != 0 {
				t.Errorf("file %s, header of %d bytes: %x", id, size, b)
			}
		case errors.Is(err, journal.ErrIncompatible):
			if id.IsZero() {
				t.Errorf("no file ID: %x", b)
			}
		case !errors.Is(err, journal.ErrIncomplete) && !errors.Is(err, journal.ErrNotJournal):
			t.Error(err)
		}
	})
}

// FuzzValue decompresses anything.
func FuzzValue(f *testing.F) {
	for flag, pack := range packers(f) {
		f.Add(flag, []byte(pack("A="+string(bytes.Repeat([]byte("abcdefgh"), 20)))))
		f.Add(flag, []byte(pack("MESSAGE="+string(make([]byte, 70_000)))))
	}
	f.Add(byte(3), []byte("A=1"))
	decompress := journal.Decompressor(f)
	f.Fuzz(func(t *testing.T, flags byte, b []byte) {
		before := allocated()
		dst := []byte("before ")
		out, err := decompress(dst, flags, b)
		if err == nil && !bytes.HasPrefix(out, dst) {
			t.Errorf("%.20q instead of what was there", out)
		}
		if err == nil && flags&7 == 0 && string(out) != "before "+string(b) {
			t.Errorf("%.100q is read as %.100q", b, out)
		}
		// What it holds, a buffer that grows to that, and what a header may ask for.
		if n := allocated() - before; n > 4*journal.MaxEntryBytes {
			t.Errorf("%d bytes allocated for %d", n, len(b))
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add("s=" + boot1 + ";i=1f;b=" + boot2 + ";m=a;t=64c0;x=ff")
	f.Add("s=;i=0")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := journal.ParseCursor(s)
		if err != nil {
			if !c.IsZero() {
				t.Errorf("%+v with %v", c, err)
			}
			return
		}
		if again, err := journal.ParseCursor(c.String()); err != nil || again != c {
			t.Errorf("%+v is written %q and read as %+v, %v", c, c, again, err)
		}
	})
}
