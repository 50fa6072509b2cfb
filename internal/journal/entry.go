package journal

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Entry is one journal entry. Everything in it belongs to the Reader and is
// valid until the next call of Next.
type Entry struct {
	Seqnum        uint64
	SeqnumID      ID
	RealtimeUsec  uint64 // since the Unix epoch
	MonotonicUsec uint64 // since the boot
	Boot          ID
	XorHash       uint64

	// Fields are all fields in the order of the file, repeated ones too. Only
	// filled by a Reader with Options.AllFields.
	Fields []Field
	// Damaged is the number of fields that could not be read.
	Damaged int

	known [numNames][]byte
	met   uint64 // conditions of the filter
}

// Known returns the value of the first field with that name, nil if there is none.
func (e *Entry) Known(n Name) []byte { return e.known[n] }

// Cursor identifies an entry, as sd_journal_get_cursor(3) does.
type Cursor struct {
	SeqnumID      ID
	Seqnum        uint64
	Boot          ID
	MonotonicUsec uint64
	RealtimeUsec  uint64
	XorHash       uint64
}

// Cursor returns the cursor of e.
func (e *Entry) Cursor() Cursor {
	return Cursor{SeqnumID: e.SeqnumID, Seqnum: e.Seqnum, Boot: e.Boot, MonotonicUsec: e.MonotonicUsec,
		RealtimeUsec: e.RealtimeUsec, XorHash: e.XorHash}
}

// IsZero reports whether c is no entry's cursor.
func (c Cursor) IsZero() bool { return c.Seqnum == 0 }

// String returns c in the form that journalctl --after-cursor reads: "" for the zero Cursor.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	return fmt.Sprintf("s=%s;i=%x;b=%s;m=%x;t=%x;x=%x", c.SeqnumID, c.Seqnum, c.Boot, c.MonotonicUsec, c.RealtimeUsec, c.XorHash)
}

// ErrCursor is wrapped by ParseCursor's error.
var ErrCursor = errors.New("journal: not a cursor")

// ParseCursor reads what Cursor.String and journalctl --show-cursor print. ""
// is the zero Cursor.
func ParseCursor(s string) (Cursor, error) {
	var c Cursor
	if s == "" {
		return c, nil
	}
	const keys = "sibmtx"
	seen := 0 // one bit for each of keys
	for part := range strings.SplitSeq(s, ";") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "s":
			c.SeqnumID, err = ParseID(value)
		case "i":
			c.Seqnum, err = strconv.ParseUint(value, 16, 64)
		case "b":
			c.Boot, err = ParseID(value)
		case "m":
			c.MonotonicUsec, err = strconv.ParseUint(value, 16, 64)
		case "t":
			c.RealtimeUsec, err = strconv.ParseUint(value, 16, 64)
		case "x":
			c.XorHash, err = strconv.ParseUint(value, 16, 64)
		default:
			continue // later versions may add keys
		}
		bit := 1 << strings.Index(keys, key)
		if err != nil || seen&bit != 0 {
			return Cursor{}, fmt.Errorf("%w: %.64q", ErrCursor, part)
		}
		seen |= bit
	}
	if seen != 1<<len(keys)-1 || c.IsZero() {
		return Cursor{}, fmt.Errorf("%w: %.64q", ErrCursor, s)
	}
	return c, nil
}

// ParseID reads 32 hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 32 {
		return id, fmt.Errorf("journal: %.64q is not 32 hex digits", s)
	}
	for i := range id {
		n, err := strconv.ParseUint(s[2*i:2*i+2], 16, 8)
		if err != nil {
			return ID{}, fmt.Errorf("journal: %.64q is not 32 hex digits", s)
		}
		id[i] = byte(n)
	}
	return id, nil
}

// precedes reports whether the head of x comes before that of y: in the order of
// sd-journal, which is by sequence number within one sequence, else by monotonic
// time within one boot, else by realtime.
func precedes(x, y *file) bool {
	a, b := &x.head, &y.head
	if x.seqnumID == y.seqnumID && a.seqnum != b.seqnum {
		return a.seqnum < b.seqnum
	}
	if a.boot == b.boot && a.monotonic != b.monotonic {
		return a.monotonic < b.monotonic
	}
	if a.realtime != b.realtime {
		return a.realtime < b.realtime
	}
	if a.xor != b.xor {
		return a.xor < b.xor
	}
	return x.volatile && !y.volatile // an original before its copy
}

// precedes reports whether c comes before the entry with stamp s of sequence id,
// in the same order. A copy of c's entry in another sequence is not behind c.
func (c Cursor) precedes(id ID, s stamp) bool {
	switch {
	case c.SeqnumID == id:
		return c.Seqnum < s.seqnum
	case c.Boot == s.boot:
		return c.MonotonicUsec < s.monotonic
	}
	return c.RealtimeUsec < s.realtime
}

// lag is how far the entry with that stamp is behind now.
func lag(realtimeUsec uint64, now time.Time) time.Duration {
	return max(0, now.Sub(time.UnixMicro(int64(realtimeUsec))))
}
