package journal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// The layout of a journal file, little endian throughout
// (systemd JOURNAL_FILE_FORMAT):
//
//	Header   0 signature "LPKSHHRH"   8 compatible_flags u32  12 incompatible_flags u32
//	        16 state u8              24 file_id[16]           40 machine_id[16]
//	        56 tail_entry_boot_id    72 seqnum_id[16]         88 header_size u64
//	        96 arena_size           136 tail_object_offset   152 n_entries u64
//	       160 tail_entry_seqnum    168 head_entry_seqnum    176 entry_array_offset
//
//	Object   0 type u8    1 flags u8    8 size u64 (with this header), 8-byte aligned
//
//	DATA    16 hash  24 next_hash  32 next_field  40 entry  48 entry_array  56 n_entries
//	        64 payload "NAME=value"                  (compact: 64 two u32, 72 payload)
//	ENTRY   16 seqnum  24 realtime  32 monotonic  40 boot_id[16]  56 xor_hash
//	        64 items {offset u64, hash u64}          (compact: {offset u32})
//	ENTRY_ARRAY  16 next array  24 items: entry offset u64 (compact: u32)
const (
	headerBytes    = 208 // up to tail_entry_monotonic: every version has it
	maxHeaderBytes = 64 << 10

	objectHeaderBytes  = 16
	dataPayload        = 64
	dataPayloadCompact = 72
	entryItems         = 64
	arrayItems         = 24

	objectData       = 1
	objectEntry      = 3
	objectEntryArray = 6

	flagXZ   = 1
	flagLZ4  = 2
	flagZstd = 4

	incompatibleXZ      = 1 << 0
	incompatibleLZ4     = 1 << 1
	incompatibleKeyed   = 1 << 2
	incompatibleZstd    = 1 << 3
	incompatibleCompact = 1 << 4
	incompatibleKnown   = incompatibleXZ | incompatibleLZ4 | incompatibleKeyed | incompatibleZstd | incompatibleCompact

	nEntriesOffset = 152
	nEntriesBytes  = 16 // n_entries and tail_entry_seqnum
)

// Limits for objects of foreign files, checked before memory is allocated.
const (
	// maxEntryBytes bounds the values of one entry, each as stored and all
	// together as decompressed. journald itself accepts up to 768 MiB from a native client.
	maxEntryBytes = 64 << 20
	// maxEntryItems is the largest number of fields of an entry that is read;
	// journald accepts 1,024 (ENTRY_FIELD_COUNT_MAX).
	maxEntryItems = 64 << 10
	// maxArrays is the largest number of entry arrays that a seek looks at: each
	// is twice as long as the one before, so a sound file has fewer than 40.
	maxArrays = 4096
	// maxOffset keeps sums of offsets and sizes from wrapping around.
	maxOffset = 1 << 62
)

var (
	// ErrIncomplete means that a file has no whole header yet: journald has just
	// created it. Try again soon.
	ErrIncomplete = errors.New("journal: header not written yet")
	// ErrNotJournal means that a file does not begin as a journal file.
	ErrNotJournal = errors.New("journal: not a journal file")
	// ErrIncompatible means that a file uses a format that this package does not know.
	ErrIncompatible = errors.New("journal: unknown incompatible flags")

	// errCorrupt is wrapped by everything that is wrong inside a file.
	errCorrupt = errors.New("corrupt")
)

// ID is a 128-bit systemd ID: of a file, a machine, a boot or a sequence.
type ID [16]byte

// String returns the 32 lower-case hex digits of id.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is all zero, which systemd treats as unset.
func (id ID) IsZero() bool { return id == ID{} }

// header is what is read of a file's header.
type header struct {
	incompatible uint32
	fileID       ID
	seqnumID     ID
	size         uint64
	nEntries     uint64
	tailSeqnum   uint64 // at least that of the last published entry
	firstUsec    uint64 // realtime of the first entry; 0 without one
	entryArray   uint64 // offset of the first entry array; 0 until the first entry
}

// parseHeader decodes the first headerBytes bytes of a file. If there are unknown
// incompatible flags, or some of avoid, the error wraps ErrIncompatible, and only
// the IDs are meant to be used.
func parseHeader(b []byte, avoid uint32) (header, error) {
	if len(b) < headerBytes || allZero(b[:16]) {
		return header{}, ErrIncomplete
	}
	if string(b[:8]) != "LPKSHHRH" {
		return header{}, ErrNotJournal
	}
	h := header{
		incompatible: le32(b[12:]),
		fileID:       ID(b[24:40]),
		seqnumID:     ID(b[72:88]),
		size:         le64(b[88:]),
		nEntries:     le64(b[nEntriesOffset:]),
		tailSeqnum:   le64(b[nEntriesOffset+8:]),
		entryArray:   le64(b[176:]),
		firstUsec:    le64(b[184:]),
	}
	if h.fileID.IsZero() {
		return header{}, ErrIncomplete
	}
	if unknown := h.incompatible & (avoid | ^uint32(incompatibleKnown)); unknown != 0 {
		return h, fmt.Errorf("%w 0x%x", ErrIncompatible, unknown)
	}
	if h.size == 0 {
		return header{}, ErrIncomplete
	}
	if h.size < headerBytes || h.size > maxHeaderBytes {
		return header{}, fmt.Errorf("%w: header size %d", ErrNotJournal, h.size)
	}
	return h, nil
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
