package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// exported is one entry as the export format gives it. Its memory is reused by
// the next one.
type exported struct {
	cursor  Cursor
	fields  []Field // without the address fields, whose names begin with "__"
	damaged int     // fields that were left out, for their size or without a name
	data    []byte  // of the fields
}

func (e *exported) reset() {
	data, fields := e.data[:0], e.fields[:0]
	if cap(data) > 1<<20 {
		data = nil // one huge value should not cost its memory for ever
	}
	*e = exported{fields: fields, data: data}
}

// exportReader reads entries in the Journal Export Format (systemd
// JOURNAL_EXPORT_FORMATS). An entry is a run of fields that an empty line ends.
// A field is one of
//
//	NAME=value LF
//	NAME LF size u64 little endian, value LF      (the value of any bytes)
//
// and the address fields __CURSOR, __REALTIME_TIMESTAMP and so on come first.
// The values of one entry are bounded by maxEntryBytes together: a field that
// would exceed it is left out.
type exportReader struct {
	r      *bufio.Reader
	values *values // for what there is to know about fields
}

// maxExportName is how long the name of a field is at most that comes when the
// values of the entry have reached their bound.
const maxExportName = 4 << 10

// errExport is wrapped by what breaks the export format.
var errExport = errors.New("not the export format")

// next fills e with the next entry. io.EOF means that there is none,
// io.ErrUnexpectedEOF that the stream ends within one.
func (x *exportReader) next(e *exported) error {
	e.reset()
	if _, err := x.r.Peek(1); err != nil {
		return err
	}
	for {
		from := len(e.data)
		line, complete, err := appendLine(e.data, max(maxEntryBytes, from+maxExportName), x.r)
		if err != nil {
			return err
		}
		if len(line) == from && complete {
			break
		}
		e.data = line
		data, whole := line[from:], complete && len(line) <= maxEntryBytes
		eq := bytes.IndexByte(data, '=')
		switch {
		case eq < 0 && !complete:
			return fmt.Errorf("%w: a name of %d bytes", errExport, len(data))
		case eq < 0:
			if whole, err = x.value(e); err != nil {
				return err
			}
			eq, data = len(data), e.data[from:]
		}
		if !whole || eq == 0 || len(e.fields) == maxEntryItems {
			e.data = e.data[:from]
			e.damaged++
			continue
		}
		if err := x.add(e, data[:len(data):len(data)], eq); err != nil {
			return err
		}
	}
	if e.cursor.IsZero() {
		return fmt.Errorf("%w: an entry without __CURSOR", errExport)
	}
	return nil
}

// add takes in the field data, NAME=value with a name of eq bytes.
func (x *exportReader) add(e *exported, data []byte, eq int) (err error) {
	name := data[:eq]
	switch {
	case string(name) == "__CURSOR":
		// It holds what the other address fields repeat.
		e.cursor, err = ParseCursor(string(data[eq+1:]))
	case !bytes.HasPrefix(name, []byte("__")):
		e.fields = append(e.fields, x.values.field(data, eq))
	}
	return err
}

// value appends to e.data, which ends with a field's name, "=" and the value as
// size and bytes. whole is false if it was left out.
func (x *exportReader) value(e *exported) (whole bool, err error) {
	var b [8]byte
	if _, err := io.ReadFull(x.r, b[:]); err != nil {
		return false, within(err)
	}
	size := binary.LittleEndian.Uint64(b[:])
	if size > maxOffset {
		return false, fmt.Errorf("%w: a value of %d bytes", errExport, size)
	}
	whole = size < maxEntryBytes-uint64(min(len(e.data), maxEntryBytes))
	if whole {
		e.data = append(e.data, '=')
		// Piece by piece: memory is taken as the bytes come, whatever size says.
		for left := int(size); left > 0 && err == nil; {
			piece := min(left, 64<<10)
			at := len(e.data)
			e.data = append(e.data, make([]byte, piece)...)
			_, err = io.ReadFull(x.r, e.data[at:])
			left -= piece
		}
	} else {
		_, err = io.CopyN(io.Discard, x.r, int64(size))
	}
	if err != nil {
		return false, within(err)
	}
	if end, err := x.r.ReadByte(); err != nil {
		return false, within(err)
	} else if end != '\n' {
		return false, fmt.Errorf("%w: %q behind a value of %d bytes", errExport, end, size)
	}
	return whole, nil
}

// appendLine appends the next line to dst, without its end, as far as dst does
// not exceed limit; complete is false if some of it is missing.
func appendLine(dst []byte, limit int, r *bufio.Reader) (line []byte, complete bool, err error) {
	for complete = true; ; {
		part, err := r.ReadSlice('\n')
		if err == nil {
			part = part[:len(part)-1]
		}
		if room := limit - len(dst); len(part) > room {
			part, complete = part[:room], false
		}
		dst = append(dst, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return dst, complete, within(err)
		}
	}
}

// within makes the end of a stream one that comes too early.
func within(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
