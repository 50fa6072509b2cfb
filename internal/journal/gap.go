package journal

import (
	"bytes"
	"strconv"
)

// String says what happened, for people.
func (g Gap) String() string {
	switch g.Reason {
	case "damaged_entry":
		return "journal entries are damaged"
	case "damaged_field":
		return "a journal entry lacks a damaged field"
	case "damaged_file":
		return "the rest of a journal file is damaged"
	case "vanished_file":
		return "journald removed a file before it was read"
	case "pin_quota":
		return "the quota of kept journal files was used up"
	case "missing_entries":
		return "journald removed entries before they were read"
	case "unsupported_file":
		return "a journal file has an unknown format"
	case "unreadable_file":
		return "a journal file cannot be read"
	case "suppressed":
		return "journald's rate limit suppressed messages"
	}
	return "journal entries are missing"
}

// dropped is the MESSAGE_ID of journald's "Suppressed N messages from UNIT"
// (sd-messages.h, SD_MESSAGE_JOURNAL_DROPPED): the only trace of what its rate
// limit (RateLimitIntervalSec=, RateLimitBurst=) left out.
const dropped = "a596d6fe7bfa4994828e72309e95d61e"

// checkSuppressed reports what e says that journald suppressed.
func (r *Reader) checkSuppressed(e *Entry) {
	// Only journald itself can set a _TRANSPORT.
	if string(e.Known(MessageID)) != dropped || string(e.Known(Transport)) != "driver" {
		return
	}
	rest, ok := bytes.CutPrefix(e.Known(Message), []byte("Suppressed "))
	number, unit, ok2 := bytes.Cut(rest, []byte(" messages from "))
	n, err := strconv.ParseUint(string(number), 10, 64)
	if !ok || !ok2 || err != nil || r.options.OnGap == nil || !r.tell("suppressed", e.SeqnumID, e.Seqnum) {
		return
	}
	// Not logged: the message is in the journal.
	r.options.OnGap(Gap{Reason: "suppressed", Entries: n, Unit: string(unit), UntilUsec: e.RealtimeUsec})
}
