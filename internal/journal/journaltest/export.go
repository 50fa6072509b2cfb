// Package journaltest helps to test readers of journal files: it writes entries
// in the export format and makes journal files of every variant with
// systemd-journal-remote.
package journaltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"sidecar/internal/journal"
)

// AppendExport appends e as `journalctl -o export --all` prints it (systemd
// JOURNAL_EXPORT_FORMATS), with the blank line at the end. e needs AllFields.
// seqnum adds the two lines that systemd 254 and later print.
func AppendExport(dst []byte, e *journal.Entry, seqnum bool) []byte {
	dst = fmt.Appendf(dst, "__CURSOR=%s\n__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n", e.Cursor(), e.RealtimeUsec, e.MonotonicUsec)
	if seqnum {
		dst = fmt.Appendf(dst, "__SEQNUM=%d\n__SEQNUM_ID=%s\n", e.Seqnum, e.SeqnumID)
	}
	dst = fmt.Appendf(dst, "_BOOT_ID=%s\n", e.Boot)
	for _, f := range e.Fields {
		if bytes.HasPrefix(f.Data, []byte("_BOOT_ID=")) {
			continue // printed already, from the entry's header
		}
		if printable(f.Data) {
			dst = append(append(dst, f.Data...), '\n')
			continue
		}
		dst = append(append(dst, f.Data[:f.NameBytes]...), '\n')
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(f.Value())))
		dst = append(append(dst, f.Value()...), '\n')
	}
	return append(dst, '\n')
}

// printable reports whether journalctl prints b as text: valid UTF-8 of assigned
// code points, no control character but tab (systemd utf8_is_printable_newline).
func printable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1,
			r < ' ' && r != '\t',
			r >= 0x7f && r <= 0x9f,
			r >= 0xfdd0 && r <= 0xfdef, // noncharacters
			r&0xfffe == 0xfffe:
			return false
		}
		b = b[n:]
	}
	return true
}
