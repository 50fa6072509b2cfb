package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
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
	UserUnit
	Unit
	ObjectUnit
	CoredumpUnit
	PID
	UID
	Comm
	Transport
	BootID
	StreamID
	LineBreak
	SourceTime
	ContainerName
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
		"_SYSTEMD_USER_UNIT":         UserUnit,
		"UNIT":                       Unit,
		"OBJECT_SYSTEMD_UNIT":        ObjectUnit,
		"COREDUMP_UNIT":              CoredumpUnit,
		"_PID":                       PID,
		"_UID":                       UID,
		"_COMM":                      Comm,
		"_TRANSPORT":                 Transport,
		"_BOOT_ID":                   BootID,
		"_STREAM_ID":                 StreamID,
		"_LINE_BREAK":                LineBreak,
		"_SOURCE_REALTIME_TIMESTAMP": SourceTime,
		"CONTAINER_NAME":             ContainerName,
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
}

// Value returns the bytes behind the equals sign.
func (f Field) Value() []byte { return f.Data[f.NameBytes+1:] }

// The value cache. journald stores each value of a field once per file and
// refers to it by offset; of the 22 fields of a usual entry 20 are the same from
// entry to entry. The cache maps such an offset to its field, so that an entry
// costs about two reads of objects.
const (
	cacheSlots    = 1 << 15
	maxCacheBytes = 1 << 10 // larger values are not kept
)

type cacheSlot struct {
	key   uint64 // file serial << 48 | offset; 0 is free
	field Field
}

// values reads DATA objects through the cache, for all files of a Reader.
type values struct {
	slots   []cacheSlot
	names   map[string]Name
	scratch []byte // the values of the current entry that are not in the cache
	unpack  []byte // an object's bytes before decompression
	zstd    *zstd.Decoder
}

func newValues() (*values, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxValueBytes))
	if err != nil {
		return nil, err
	}
	return &values{slots: make([]cacheSlot, cacheSlots), names: knownNames(), zstd: d}, nil
}

// begin starts a new entry: what was returned for the last one may be overwritten.
func (v *values) begin() {
	if cap(v.scratch) > 1<<20 {
		v.scratch = nil // one huge value should not cost its memory for ever
	}
	v.scratch = v.scratch[:0]
}

func cacheKey(serial, off uint64) uint64 { return serial<<48 | off }

func slotOf(key uint64) uint64 {
	return (key * 0x9E3779B97F4A7C15) >> (64 - 15)
}

// read returns the field of the DATA object at off of file j. It is valid until
// the next begin.
func (v *values) read(j *file, off uint64) (Field, error) {
	key := cacheKey(j.serial, off)
	slot := &v.slots[slotOf(key)]
	if slot.key == key {
		return slot.field, nil
	}
	field, shared, err := v.load(j, off)
	if err == nil && shared && len(field.Data) <= maxCacheBytes {
		// A new copy, never the slot's old memory: the current entry may refer to it.
		field.Data = bytes.Clone(field.Data)
		*slot = cacheSlot{key: key, field: field}
	}
	return field, err
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
	if kind != objectData || size <= payload || size-payload > maxValueBytes {
		return Field{}, false, fmt.Errorf("%w: no value at %d", errCorrupt, off)
	}
	if b, err = j.view(j.f, off, size); err != nil {
		return Field{}, false, err
	}
	from := len(v.scratch)
	if v.scratch, err = v.appendPayload(v.scratch, flags, b[payload:]); err != nil {
		return Field{}, false, fmt.Errorf("%w: value at %d: %v", errCorrupt, off, err)
	}
	data := v.scratch[from:len(v.scratch):len(v.scratch)]
	eq := bytes.IndexByte(data, '=')
	if eq <= 0 {
		return Field{}, false, fmt.Errorf("%w: value at %d has no name", errCorrupt, off)
	}
	return Field{Data: data, Name: v.names[string(data[:eq])], NameBytes: int32(eq)}, shared, nil
}

var errTooLarge = errors.New("larger than the limit when decompressed")

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
	if size > maxValueBytes || size > 255*uint64(len(b)) {
		return dst, errTooLarge
	}
	from := len(dst)
	dst = append(dst, make([]byte, size)...)
	n, err := lz4.UncompressBlock(b[8:], dst[from:])
	if err != nil {
		return dst[:from], err
	}
	return dst[:from+n], nil
}

func appendXZ(dst, b []byte) ([]byte, error) {
	r, err := xz.NewReader(bytes.NewReader(b))
	if err != nil {
		return dst, err
	}
	out := bytes.NewBuffer(dst)
	n, err := io.Copy(out, io.LimitReader(r, maxValueBytes+1))
	if err == nil && n > maxValueBytes {
		err = errTooLarge
	}
	if err != nil {
		return dst, err
	}
	return out.Bytes(), nil
}
