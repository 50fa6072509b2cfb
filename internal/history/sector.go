package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrCorrupt is returned for bytes that are no ring file, or no day of one.
var ErrCorrupt = errors.New("history: damaged")

// errBlank is returned for a day that has never been written.
var errBlank = errors.New("history: blank")

const (
	minutesOfDay = 24 * 60
	sectorBytes  = 512
	magic        = "hdr1"

	offMagic   = 0
	offDay     = 4
	offSeq     = 8
	offMinutes = 16
	offZero    = offMinutes + minutesOfDay/perByte
	offSum     = sectorBytes - 4

	// maxSeq is never reached: it is a write each nanosecond for centuries. A larger one
	// could not be followed by the next.
	maxSeq = 1 << 62

	// perByte levels are in a byte: 6^3 is less than 256.
	perByte = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sector is a day as it is in a file; the package comment has the layout.
type sector struct {
	day     uint32
	seq     uint64
	minutes [minutesOfDay]Level
}

func (s *sector) encode() []byte {
	b := make([]byte, sectorBytes)
	copy(b[offMagic:], magic)
	binary.LittleEndian.PutUint32(b[offDay:], s.day)
	binary.LittleEndian.PutUint64(b[offSeq:], s.seq)
	for i := range minutesOfDay / perByte {
		m := s.minutes[i*perByte:]
		b[offMinutes+i] = byte(m[0] + levels*m[1] + levels*levels*m[2])
	}
	binary.LittleEndian.PutUint32(b[offSum:], crc32.Checksum(b[:offSum], castagnoli))
	return b
}

// decode sets s to the day in b. It returns errBlank or ErrCorrupt, with s in no
// particular state, if there is none.
func (s *sector) decode(b []byte) error {
	if len(b) != sectorBytes {
		return fmt.Errorf("%w: %d bytes, want %d", ErrCorrupt, len(b), sectorBytes)
	}
	if isZero(b) {
		return errBlank
	}
	if string(b[offMagic:offDay]) != magic {
		return fmt.Errorf("%w: byte %d: no day begins here", ErrCorrupt, offMagic)
	}
	if binary.LittleEndian.Uint32(b[offSum:]) != crc32.Checksum(b[:offSum], castagnoli) {
		return fmt.Errorf("%w: byte %d: checksum", ErrCorrupt, offSum)
	}
	s.day = binary.LittleEndian.Uint32(b[offDay:])
	s.seq = binary.LittleEndian.Uint64(b[offSeq:])
	if s.seq > maxSeq {
		return fmt.Errorf("%w: byte %d: number %d", ErrCorrupt, offSeq, s.seq)
	}
	for i, packed := range b[offMinutes:offZero] {
		if packed >= levels*levels*levels {
			return fmt.Errorf("%w: byte %d: %d", ErrCorrupt, offMinutes+i, packed)
		}
		m := s.minutes[i*perByte:]
		m[0], m[1], m[2] = Level(packed%levels), Level(packed/levels%levels), Level(packed/levels/levels)
	}
	if !isZero(b[offZero:offSum]) {
		return fmt.Errorf("%w: byte %d: not zero", ErrCorrupt, offZero)
	}
	return nil
}

func isZero(b []byte) bool {
	return bytes.Equal(b, make([]byte, len(b)))
}

func (s *sector) counts() Counts {
	var c Counts
	for _, l := range s.minutes {
		c[l]++
	}
	return c
}
