package journaltest

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// Offsets in a journal file (systemd JOURNAL_FILE_FORMAT).
const (
	incompatibleAt = 12
	seqnumIDAt     = 72
	headerSizeAt   = 88
	tailObjectAt   = 136
	tailSeqnumAt   = 160
	headSeqnumAt   = 168
	tailArrayAt    = 256 // u32, from header size 264 on
	tailEntryAt    = 264 // from header size 272 on

	compactFlag    = 1 << 4
	typeData       = 1
	typeField      = 2
	typeEntry      = 3
	typeDataHash   = 4
	typeFieldHash  = 5
	typeEntryArray = 6
)

// objects calls f for every object of the journal file b, in its order.
func objects(b []byte, f func(object []byte)) {
	for off, tail := u64(b, headerSizeAt), u64(b, tailObjectAt); off <= tail; {
		size := u64(b, int(off)+8)
		f(b[off:][:size])
		off += (size + 7) &^ 7
	}
}

// Recompress compresses the values of a file without compression in place, with
// "lz4" or "xz" as systemd does (compress_blob_lz4, compress_blob_xz), from
// 64 bytes on and where it makes them shorter.
func Recompress(tb testing.TB, path, method string) {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	flag, payloadAt := byte(1), 64
	if method == "lz4" {
		flag = 2
	}
	if u32(b, incompatibleAt)&compactFlag != 0 {
		payloadAt = 72
	}
	count := 0
	objects(b, func(o []byte) {
		payload := o[min(payloadAt, len(o)):]
		if o[0] != typeData || o[1] != 0 || len(payload) < 64 {
			return
		}
		packed := compress(tb, method, payload)
		if len(packed) >= len(payload) {
			return
		}
		copy(payload, packed)
		o[1] = flag
		binary.LittleEndian.PutUint64(o[8:], uint64(payloadAt+len(packed)))
		count++
	})
	if count == 0 {
		tb.Fatalf("%s: no value to compress", path)
	}
	b[incompatibleAt] |= flag // the flags of the header are those of the objects
	if err := os.WriteFile(path, b, 0o640); err != nil {
		tb.Fatal(err)
	}
}

func compress(tb testing.TB, method string, payload []byte) []byte {
	tb.Helper()
	if method == "lz4" {
		packed := make([]byte, 8+lz4.CompressBlockBound(len(payload)))
		binary.LittleEndian.PutUint64(packed, uint64(len(payload)))
		n, err := lz4.CompressBlock(payload, packed[8:], nil)
		if err != nil {
			tb.Fatal(err)
		}
		if n == 0 {
			return payload // incompressible
		}
		return packed[:8+n]
	}
	var packed bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true}.NewWriter(&packed)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(payload); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return packed.Bytes()
}

// Continue makes the file at path one that continues the sequence of the file
// before it, as a rotated journal does: with the same seqnum_id and higher
// sequence numbers.
func Continue(tb testing.TB, before, path string) {
	tb.Helper()
	a, err := os.ReadFile(before)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	add := u64(a, tailSeqnumAt)
	copy(b[seqnumIDAt:][:16], a[seqnumIDAt:])
	raise := func(at []byte) { binary.LittleEndian.PutUint64(at, u64(at, 0)+add) }
	raise(b[tailSeqnumAt:])
	raise(b[headSeqnumAt:])
	objects(b, func(o []byte) {
		if o[0] == typeEntry {
			raise(o[16:])
		}
	})
	if err := os.WriteFile(path, b, 0o640); err != nil {
		tb.Fatal(err)
	}
}

// SetHeaderSize gives the file at path a header as another version of systemd
// writes it: 208 bytes at the beginning, 224, 240, 256, 264 (252), 272 (254). It
// moves all objects, and with them every offset.
func SetHeaderSize(tb testing.TB, path string, size uint64) {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	m := mover{by: size - u64(b, headerSizeAt), compact: u32(b, incompatibleAt)&compactFlag != 0}
	last, off := uint64(0), size // of the last entry, of the object
	objects(b, func(o []byte) {
		m.object(o)
		if o[0] == typeEntry {
			last = off
		}
		off += uint64(len(o)+7) &^ 7
	})
	old := u64(b, headerSizeAt)
	header := make([]byte, size)
	copy(header, b[:old])
	for _, at := range []int{104, 120, tailObjectAt, 176} { // the hash tables, the last object, the first entry array
		m.move(header[at:])
	}
	if size >= tailEntryAt && old >= tailEntryAt {
		m.move32(header[tailArrayAt:])
	}
	if size >= tailEntryAt+8 {
		binary.LittleEndian.PutUint64(header[tailEntryAt:], last)
	}
	binary.LittleEndian.PutUint64(header[headerSizeAt:], size)
	if err := os.WriteFile(path, append(header, b[old:]...), 0o640); err != nil {
		tb.Fatal(err)
	}
}

// mover adds to offsets in a journal file.
type mover struct {
	by      uint64
	compact bool
}

// move changes the offset that at begins with, unless it is 0: none.
func (m mover) move(at []byte) {
	if off := u64(at, 0); off != 0 {
		binary.LittleEndian.PutUint64(at, off+m.by)
	}
}

func (m mover) move32(at []byte) {
	if off := u32(at, 0); off != 0 {
		binary.LittleEndian.PutUint32(at, off+uint32(m.by))
	}
}

// object changes all offsets in the object o.
func (m mover) object(o []byte) {
	every := func(from, step int) {
		for ; from+step <= len(o); from += step {
			m.move(o[from:])
		}
	}
	items := func(from, step int) {
		if !m.compact {
			every(from, step)
			return
		}
		for ; from+4 <= len(o); from += 4 {
			m.move32(o[from:])
		}
	}
	switch o[0] {
	case typeData:
		for at := 24; at < 56; at += 8 {
			m.move(o[at:])
		}
		if m.compact {
			m.move32(o[64:])
		}
	case typeField:
		m.move(o[24:])
		m.move(o[32:])
	case typeEntry:
		items(64, 16)
	case typeDataHash, typeFieldHash:
		every(16, 8)
	case typeEntryArray:
		m.move(o[16:])
		items(24, 8)
	}
}

func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
