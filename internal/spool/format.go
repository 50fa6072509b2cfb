package spool

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The layout stands in the package comment.
const (
	formatVersion = 1
	segmentMagic  = "LSSPOOL\n"
	cursorMagic   = "LSCURSR\n"

	preludeBytes = 16 // magic, version and their checksum
	headerBytes  = 56
	frameBytes   = 20 // what a frame has besides its payload
	minPayload   = 10
	maxFields    = 9 * (2 + maxFieldBytes)
	maxPayload   = minPayload + maxFields + MaxMessageBytes
	slotBytes    = 72
	slotDistance = 512

	maxFieldBytes = 255
)

// MaxMessageBytes is the length of the longest message that can be stored.
const MaxMessageBytes = 1 << 20

// VersionError means that a directory holds a spool of a version that this
// program does not know. Nothing in it was changed.
type VersionError struct {
	// Path is the file that says so.
	Path string
	// Version is the file's version, Known the highest that this program reads.
	Version, Known uint32
}

// Error names both versions and the way out.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s is a spool of version %d, this logship knows up to %d: install the newer one again", e.Path, e.Version, e.Known)
}

// errDamaged means that a header or a cursor is not what was written.
var errDamaged = errors.New("checksum or length is wrong")

// spoolID tells a spool from every other. Bytes 0 to 7 are secret and mask
// sequence numbers, bytes 8 to 15 are public and part of event IDs.
type spoolID [16]byte

func (id spoolID) mask() uint64   { return binary.LittleEndian.Uint64(id[:8]) }
func (id spoolID) public() string { return hex.EncodeToString(id[8:]) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func appendPrelude(dst []byte, magic string) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, formatVersion)
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
}

// checkPrelude returns a VersionError without a path, errDamaged or nil.
func checkPrelude(b []byte, magic string) error {
	if len(b) < preludeBytes || string(b[:8]) != magic || checksum(b[:12]) != binary.LittleEndian.Uint32(b[12:]) {
		return errDamaged
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return &VersionError{Version: v, Known: formatVersion}
	}
	return nil
}

// header is the beginning of a segment.
type header struct {
	id          spoolID
	after, sure uint64
}

func (h header) append(dst []byte) []byte {
	start := len(dst)
	dst = appendPrelude(dst, segmentMagic)
	dst = append(dst, h.id[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, h.after)
	dst = binary.LittleEndian.AppendUint64(dst, h.sure)
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
	return append(dst, 0, 0, 0, 0)
}

func parseHeader(b []byte) (h header, err error) {
	if err := checkPrelude(b, segmentMagic); err != nil {
		return h, err
	}
	if len(b) < headerBytes || checksum(b[:48]) != binary.LittleEndian.Uint32(b[48:]) {
		return h, errDamaged
	}
	copy(h.id[:], b[16:])
	h.after = binary.LittleEndian.Uint64(b[32:])
	h.sure = binary.LittleEndian.Uint64(b[40:])
	return h, nil
}

const segmentSuffix = ".seg"

// segmentName returns the file name of the segment whose first message is first.
func segmentName(first uint64) string { return fmt.Sprintf("%016x", first) + segmentSuffix }

// parseSegmentName returns false for a name that segmentName does not make.
func parseSegmentName(name string) (first uint64, ok bool) {
	first, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 16, 64)
	return first, err == nil && first > 0 && segmentName(first) == name
}

// Message is a message with its envelope. What is empty is not known.
type Message struct {
	// Text is the raw message, of any bytes, at most MaxMessageBytes.
	Text []byte
	// TimeUsec is when it was received, in microseconds since the Unix epoch.
	TimeUsec int64
	// Priority is the syslog severity 0 to 7, or -1.
	Priority int8
	// Source names what took the message in (syslog, stdin, gelf), Peer where it
	// came from (an address, a socket), Transport how (udp, tcp, tls, unix). These
	// and the following are kept up to 255 bytes each.
	Source, Peer, Transport []byte
	// Facility is the syslog facility in decimal; the others are as in record.Entry.
	Facility, Host, Identifier, Unit, PID []byte
}

// Kinds of fields.
const (
	kindSource = iota + 1
	kindPeer
	kindTransport
	kindSeverity
	kindFacility
	kindHost
	kindIdentifier
	kindUnit
	kindPID
)

// appendFrame appends m to dst, as the frame numbered seq of a batch that begins with
// the number batch, and returns it.
func appendFrame(dst []byte, mask, batch, seq uint64, m *Message) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, seq^mask)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(seq-batch))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.TimeUsec))
	dst = append(dst, 0, 0)
	dst = appendFields(dst, m)
	binary.LittleEndian.PutUint16(dst[start+frameBytes+8:], uint16(len(dst)-start-frameBytes-minPayload))
	dst = append(dst, m.Text...)
	frame := dst[start:]
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-frameBytes))
	binary.LittleEndian.PutUint32(frame, checksum(frame[4:]))
	return dst
}

func appendFields(dst []byte, m *Message) []byte {
	dst = appendField(dst, kindSource, m.Source)
	dst = appendField(dst, kindPeer, m.Peer)
	dst = appendField(dst, kindTransport, m.Transport)
	if m.Priority >= 0 && m.Priority <= 7 {
		dst = append(dst, kindSeverity, 1, '0'+byte(m.Priority))
	}
	dst = appendField(dst, kindFacility, m.Facility)
	dst = appendField(dst, kindHost, m.Host)
	dst = appendField(dst, kindIdentifier, m.Identifier)
	dst = appendField(dst, kindUnit, m.Unit)
	return appendField(dst, kindPID, m.PID)
}

func appendField(dst []byte, kind byte, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	value = value[:min(len(value), maxFieldBytes)]
	return append(append(dst, kind, byte(len(value))), value...)
}

// maxFrame bounds what appendFrame appends for m.
func maxFrame(m *Message) int { return frameBytes + minPayload + maxFields + len(m.Text) }

// parse sets m to what payload holds; it points into payload. Its checksum was
// right, so an error means that another program wrote it.
func (m *Message) parse(payload []byte) error {
	*m = Message{Priority: -1}
	if len(payload) < minPayload {
		return errDamaged
	}
	m.TimeUsec = int64(binary.LittleEndian.Uint64(payload))
	fields, rest := int(binary.LittleEndian.Uint16(payload[8:])), payload[minPayload:]
	if fields > len(rest) {
		return errDamaged
	}
	m.Text = rest[fields:]
	for b := rest[:fields]; len(b) > 0; {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return errDamaged
		}
		end := 2 + int(b[1])
		m.setField(b[0], b[2:end:end])
		b = b[end:]
	}
	return nil
}

func (m *Message) setField(kind byte, value []byte) {
	switch kind {
	case kindSource:
		m.Source = value
	case kindPeer:
		m.Peer = value
	case kindTransport:
		m.Transport = value
	case kindSeverity:
		if len(value) == 1 && value[0] >= '0' && value[0] <= '7' {
			m.Priority = int8(value[0] - '0')
		}
	case kindFacility:
		m.Facility = value
	case kindHost:
		m.Host = value
	case kindIdentifier:
		m.Identifier = value
	case kindUnit:
		m.Unit = value
	case kindPID:
		m.PID = value
	}
}

// mark is the content of the cursor.
type mark struct {
	id               spoolID
	generation       uint64
	head, tail, next uint64
}

func (m mark) append(dst []byte) []byte {
	start := len(dst)
	dst = appendPrelude(dst, cursorMagic)
	dst = append(dst, m.id[:]...)
	for _, v := range []uint64{m.generation, m.head, m.tail, m.next} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
	return append(dst, 0, 0, 0, 0)
}

func parseMark(b []byte) (m mark, err error) {
	if err := checkPrelude(b, cursorMagic); err != nil {
		return m, err
	}
	if len(b) < slotBytes || checksum(b[:64]) != binary.LittleEndian.Uint32(b[64:]) {
		return m, errDamaged
	}
	copy(m.id[:], b[16:])
	for i, v := range []*uint64{&m.generation, &m.head, &m.tail, &m.next} {
		*v = binary.LittleEndian.Uint64(b[32+8*i:])
	}
	return m, nil
}
