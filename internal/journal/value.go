package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// Name is one of the field names that the shipper looks at. 0 is every other name.
type Name uint8

// The names that Entry.Known holds, as systemd.journal-fields(7) spells them.
const (
	Message Name = iota + 1
	MessageID
	Priority
	SyslogIdentifier
	SyslogFacility
	SyslogPID
	Hostname
	SystemdUnit
	PID
	Comm
	Transport
	BootID
	StreamID
	LineBreak
	SourceTime
	ContainerName
	PartialMessage
	numNames
)

func knownNames() map[string]Name {
	return map[string]Name{
		"MESSAGE":                    Message,
		"MESSAGE_ID":                 MessageID,
		"PRIORITY":                   Priority,
		"SYSLOG_IDENTIFIER":          SyslogIdentifier,
		"SYSLOG_FACILITY":            SyslogFacility,
		"SYSLOG_PID":                 SyslogPID,
		"_HOSTNAME":                  Hostname,
		"_SYSTEMD_UNIT":              SystemdUnit,
		"_PID":                       PID,
		"_COMM":                      Comm,
		"_TRANSPORT":                 Transport,
		"_BOOT_ID":                   BootID,
		"_STREAM_ID":                 StreamID,
		"_LINE_BREAK":                LineBreak,
		"_SOURCE_REALTIME_TIMESTAMP": SourceTime,
		"CONTAINER_NAME":             ContainerName,
		"CONTAINER_PARTIAL_MESSAGE":  PartialMessage,
	}
}

// Field is one field of an entry.
type Field struct {
	// Data is NAME=value, the value of any bytes.
	Data []byte
	// Name is the known name, 0 for others.
	Name Name
	// NameBytes is the length of NAME in bytes.
	NameBytes int32

	met uint64 // conditions of the filter
}

// Value returns the bytes behind the equals sign.
func (f Field) Value() []byte { return f.Data[f.NameBytes+1:] }

// The value cache. journald stores each value of a field once per file and
// refers to it by offset; of the 22 fields of a usual entry 20 are the same from
// entry to entry. The cache maps such an offset to its field, so that an entry
// costs about two reads of objects.
const (
	cacheBits      = 13
	maxCachedValue = 4 << 10 // in bytes; larger values are not kept
	maxCacheBytes  = 8 << 20 // of all values; then the cache starts afresh
)

type cacheSlot struct {
	off    uint64
	serial uint64 // of the file; 0 is free
	field  Field
}

// values reads DATA objects through the cache, for all files of a Reader.
type values struct {
	slots    []cacheSlot
	cached   int // bytes of values in slots
	names    map[string]key
	scratch  []byte // the values of the current entry that are not in the cache
	uncached Field  // the last of them
	full     bool   // a value of the current entry was too large: unpack no more of it
	zstd     *zstd.Decoder
}

// key is what there is to know about a field name.
type key struct {
	known      Name
	conditions []condition // of the filter
}

func newValues(filter *Filter) (*values, error) {
	d, err := newDecoder()
	if err != nil {
		return nil, err
	}
	names := map[string]key{}
	for name, known := range knownNames() {
		names[name] = key{known: known}
	}
	if filter != nil {
		for name, conditions := range filter.conditions {
			names[name] = key{known: names[name].known, conditions: conditions}
		}
	}
	return &values{slots: make([]cacheSlot, 1<<cacheBits), names: names, zstd: d}, nil
}

func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxEntryBytes))
}

// begin starts a new entry: what was returned for the last one may be overwritten.
func (v *values) begin() {
	if cap(v.scratch) > 1<<20 { // one huge value should not cost its memory for ever
		v.scratch, v.uncached = nil, Field{}
		if d, err := newDecoder(); err == nil { // the old one refers to what it decoded last
			v.zstd.Close()
			v.zstd = d
		}
	}
	v.scratch, v.full = v.scratch[:0], false
}

// slot returns where the cache would hold the value at off of the file with that
// serial number (Fibonacci hashing; offsets are multiples of 8).
func (v *values) slot(serial, off uint64) *cacheSlot {
	return &v.slots[((off>>3)^serial<<40)*0x9E3779B97F4A7C15>>(64-cacheBits)]
}

// read returns the field of the DATA object at off of file j. Its Data are valid
// until the next begin, the Field itself until the next read.
func (v *values) read(j *file, off uint64) (*Field, error) {
	slot := v.slot(j.serial, off)
	if slot.off == off && slot.serial == j.serial {
		return &slot.field, nil
	}
	field, shared, err := v.load(j, off)
	if err == nil && shared && len(field.Data) <= maxCachedValue {
		// A new copy, never the slot's old memory: the current entry may refer to it.
		field.Data = bytes.Clone(field.Data)
		v.keep(slot, cacheSlot{off: off, serial: j.serial, field: field})
	}
	v.uncached = field
	return &v.uncached, err
}

func (v *values) keep(slot *cacheSlot, value cacheSlot) {
	v.cached += len(value.field.Data) - len(slot.field.Data)
	if v.cached > maxCacheBytes {
		clear(v.slots)
		v.cached = len(value.field.Data)
	}
	*slot = value
}

// load reads the DATA object at off into scratch. shared means that several
// entries refer to it.
func (v *values) load(j *file, off uint64) (field Field, shared bool, err error) {
	payload := uint64(dataPayload)
	if j.compact {
		payload = dataPayloadCompact
	}
	if off < j.size || off%8 != 0 {
		return Field{}, false, fmt.Errorf("%w: value offset %d", errCorrupt, off)
	}
	b, err := j.view(j.f, off, payload)
	if err != nil {
		return Field{}, false, err
	}
	kind, flags, size := b[0], b[1], le64(b[8:])
	shared = le64(b[56:]) > 1
	from := len(v.scratch)
	switch {
	case kind != objectData || size <= payload:
		return Field{}, false, fmt.Errorf("%w: no value at %d", errCorrupt, off)
	case size-payload > maxEntryBytes-uint64(from), flags != 0 && v.full:
		return Field{}, false, errTooLarge
	}
	if b, err = j.view(j.f, off, size); err != nil {
		return Field{}, false, err
	}
	grown, err := v.appendPayload(v.scratch, flags, b[payload:])
	if err == nil && len(grown) > maxEntryBytes {
		err = errTooLarge
	}
	if err != nil {
		v.full = errors.Is(err, errTooLarge) || errors.Is(err, zstd.ErrDecoderSizeExceeded)
		return Field{}, false, fmt.Errorf("%w: value at %d: %v", errCorrupt, off, err)
	}
	v.scratch = grown
	data := grown[from:len(grown):len(grown)]
	eq := bytes.IndexByte(data, '=')
	if eq <= 0 {
		return Field{}, false, fmt.Errorf("%w: value at %d has no name", errCorrupt, off)
	}
	return v.field(data, eq), shared, nil
}

// field returns the field of data, which is NAME=value, with a name of nameBytes.
func (v *values) field(data []byte, nameBytes int) Field {
	key := v.names[string(data[:nameBytes])]
	f := Field{Data: data, Name: key.known, NameBytes: int32(nameBytes)}
	f.met = bitsOf(key.conditions, f.Value())
	return f
}

var errTooLarge = errors.New("larger than the limit of an entry")

// appendPayload appends the decompressed payload to dst.
func (v *values) appendPayload(dst []byte, flags byte, b []byte) ([]byte, error) {
	switch flags & (flagXZ | flagLZ4 | flagZstd) {
	case 0:
		return append(dst, b...), nil
	case flagZstd:
		return v.zstd.DecodeAll(b, dst)
	case flagLZ4:
		return appendLZ4(dst, b)
	case flagXZ:
		return appendXZ(dst, b)
	}
	return dst, fmt.Errorf("object flags 0x%x", flags)
}

// appendLZ4 decodes le64 size, then one LZ4 block.
func appendLZ4(dst, b []byte) ([]byte, error) {
	if len(b) < 8 {
		return dst, io.ErrUnexpectedEOF
	}
	size := le64(b)
	// An LZ4 block expands to at most 255 times its size.
	if size > maxEntryBytes || size > 255*uint64(len(b)) {
		return dst, errTooLarge
	}
	from := len(dst)
	dst = append(dst, make([]byte, size)...)
	n, err := lz4.UncompressBlock(b[8:], dst[from:])
	if err == nil && uint64(n) != size {
		err = io.ErrUnexpectedEOF
	}
	return dst, err
}

// appendXZ decodes one xz stream of one block. The LZMA2 data is taken out of
// its container, because the container's reader would allocate whatever
// dictionary the header asks for, up to 4 GiB; systemd writes with 1 MiB.
func appendXZ(dst, b []byte) ([]byte, error) {
	data, dictBytes, err := xzBlock(b)
	if err != nil {
		return dst, err
	}
	r, err := lzma.Reader2Config{DictCap: dictBytes}.NewReader2(bytes.NewReader(data))
	if err != nil {
		return dst, err
	}
	out := bytes.NewBuffer(dst)
	n, err := io.Copy(out, io.LimitReader(r, maxEntryBytes+1))
	if err == nil && n > maxEntryBytes {
		err = errTooLarge
	}
	return out.Bytes(), err
}

var errXZ = errors.New("not one xz block of LZMA2")

// xzBlock returns the LZMA2 data of an xz stream's first block and the size of
// its dictionary (The .xz File Format 1.2.1, sections 2.1.1, 3.1 and 5.3.1).
func xzBlock(b []byte) (data []byte, dictBytes int, err error) {
	const streamHeader, maxDict = 12, 28 // 28 stands for 64 MiB
	if len(b) < streamHeader+8 || string(b[:6]) != "\xfd7zXZ\x00" {
		return nil, 0, errXZ
	}
	b = b[streamHeader:]
	size := 4 * (int(b[0]) + 1)
	if b[0] == 0 || len(b) < size || b[1]&^0xc0 != 0 {
		return nil, 0, errXZ
	}
	h := b[2:size]
	for flag := byte(0x40); flag != 0; flag <<= 1 { // compressed, then uncompressed size
		if b[1]&flag != 0 {
			_, n := binary.Uvarint(h)
			h = h[max(n, 0):]
		}
	}
	if len(h) < 3 || h[0] != 0x21 || h[1] != 1 { // the filter LZMA2 with one byte of properties
		return nil, 0, errXZ
	}
	if h[2] > maxDict {
		return nil, 0, errTooLarge
	}
	return b[size:], (2 | int(h[2]&1)) << (h[2]/2 + 11), nil
}
