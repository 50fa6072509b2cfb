package ship

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"sidecar/internal/deadletter"
	"sidecar/internal/gelf"
	"sidecar/internal/output"
)

// A frame that ends every connection it is sent on would hold up all behind it
// (Graylog rule R22). It is looked for when connections with frames on them break
// again and again without a confirmation: by confirming fewer and fewer frames at
// a time, down to one. Whether the frame is the reason or the receiver is not well
// is told apart by another message: only if the receiver confirms a notice, and the
// next connection then breaks with the frame alone on it, is the frame put among
// the dead letters and left out. A frame that the receiver says it rejects is known at
// once; but of two in a row the second is left out only after a notice, too.
const (
	deathsBeforeSuspicion = 3
	triesAlone            = 3
	firstWindow           = 256
	windowStep            = 16
	maxCondemned          = 1000
)

// suspicion is what the line knows of a frame that may end connections.
type suspicion struct {
	deaths    int             // connections in a row that broke with frames on them
	window    int             // the most frames that are confirmed at a time; 0: no limit
	alone     []byte          // the frame that was sent last, if it was sent alone
	suspect   string          // the identity of the frame that a connection broke with alone
	tries     int             // how often that was, in a row
	noticed   bool            // the notice is on its way
	vouched   bool            // the notice was confirmed, and the suspect is next
	rejected  bool            // a frame was rejected, and nothing is confirmed since
	condemned map[string]bool // identities of frames that are dead letters now
}

// head returns what of the batch is sent at once: all of it, unless a frame of it
// is suspected.
func (l *Line) head() []byte {
	if l.window == 0 {
		return l.unsent
	}
	_, end := head(l.unsent, l.window)
	if l.window == 1 {
		l.alone = append(l.alone[:0], l.unsent[:end]...)
	}
	return l.unsent[:end]
}

// noticeDue reports whether the receiver has to show first that it takes messages.
func (l *Line) noticeDue() bool {
	if l.window != 1 || l.vouched || l.leave || l.tries < triesAlone-1 {
		return false
	}
	_, end := head(l.unsent, 1)
	return identity(l.unsent[:end]) == l.suspect
}

// notice returns the frame that says what is suspected.
func (l *Line) notice(now time.Time) []byte {
	g := Gap{Reason: "suspected", Text: "connections to the receiver break with one message; it is tried once more", TimeUsec: now.UnixMicro()}
	r := g.record()
	l.Pipeline.finish(&r)
	return append(gelf.Append(nil, &r, &l.Pipeline.GELF), 0)
}

// identity returns what a frame is known by when it is made again: its _event_id,
// or, of one without, all of it.
func identity(frame []byte) string {
	// Not within a value: quotation marks are escaped there.
	if _, rest, ok := bytes.Cut(frame, []byte(`,"_event_id":"`)); ok {
		if id, _, ok := bytes.Cut(rest, []byte(`"`)); ok {
			return string(id)
		}
	}
	return string(bytes.TrimSuffix(frame, []byte{0}))
}

// isGap reports whether a frame tells of a gap.
func isGap(frame []byte) bool { return strings.HasPrefix(identity(frame), gapID) }

// leftOut reports whether a frame is a dead letter already.
func (l *Line) leftOut(frame []byte) bool {
	return len(l.condemned) > 0 && l.condemned[identity(frame)]
}

// died learns from a session that ended with err, before the rewind. It reports
// whether a frame was put among the dead letters, which may be all that was wrong.
func (l *Line) died(err error) (quarantined bool) {
	vouched, noticed := l.vouched, l.noticed
	l.vouched, l.noticed = false, false
	if rejected := new(output.Rejected); errors.As(err, &rejected) {
		switch {
		case isGap(rejected.Frame): // the receiver is not well, and to tell of that gap too would go on for ever
			return false
		case l.rejected: // two in a row: it has to show first that it takes messages
			l.window, l.suspect, l.tries = 1, identity(rejected.Frame), triesAlone-1
			return false
		}
		l.rejected = true
		return l.quarantine(rejected.Frame, rejected.Err.Error())
	}
	if l.DeadLetters == nil || l.bytes == 0 && l.pending == nil || errors.As(err, new(*output.Held)) {
		return false
	}
	l.deaths++
	switch {
	case l.window > 1:
		l.window = max(1, l.window/windowStep)
	case l.window == 0:
		if l.deaths >= deathsBeforeSuspicion {
			l.window = firstWindow
		}
	case noticed: // the receiver is not well
		l.suspect, l.tries = "", 0
	default:
		if id := identity(l.alone); id != l.suspect {
			l.suspect, l.tries = id, 0
		}
		l.tries++
		return vouched && l.quarantine(l.alone, "connections break with it: "+err.Error())
	}
	return false
}

// survived learns from a confirmation; whole says that the batch is sent.
func (l *Line) survived(whole bool) {
	l.deaths, l.rejected = 0, false
	l.vouched, l.noticed = l.noticed, false
	if l.window == 0 || l.vouched {
		return
	}
	l.suspect, l.tries = "", 0
	if !whole {
		return // a failure would make all of the batch go out again
	}
	if l.window *= windowStep; l.window > firstWindow {
		l.window, l.alone = 0, nil
	}
}

// quarantine puts a frame among the dead letters; false means that it could not be
// kept there, and goes on to be sent.
func (l *Line) quarantine(frame []byte, why string) bool {
	if l.DeadLetters == nil || len(frame) == 0 {
		return false
	}
	id := identity(frame)
	letter := deadletter.Letter{Time: time.Now().UTC(), Reason: why, Message: slices.Clone(bytes.TrimSuffix(frame, []byte{0}))}
	if id != string(letter.Message) {
		letter.EventID = id
	}
	dropped, err := l.DeadLetters.Append(letter)
	if err != nil {
		l.Log.Error("a message that the receiver does not take holds up the others, it cannot be kept as a dead letter", "event_id", letter.EventID, "reason", why, "err", err)
		return false
	}
	if l.condemned == nil || len(l.condemned) >= maxCondemned {
		l.condemned = map[string]bool{} // the oldest of them were passed long ago
	}
	l.condemned[id] = true
	l.suspect, l.tries = "", 0
	l.Log.Error("a message that the receiver does not take is kept as a dead letter (logship dlq)", "event_id", letter.EventID, "reason", why)
	l.Gaps.Add(Gap{Reason: "quarantined", Text: "message that the receiver does not take, kept as a dead letter", Entries: 1})
	if dropped > 0 {
		l.Gaps.Add(Gap{Reason: "dead_letters_full", Text: "oldest dead letters discarded for new ones", Entries: uint64(dropped)})
	}
	return true
}

// windowSent reports whether a part of the batch is sent, and waits for its cut.
func (l *Line) windowSent() bool { return l.window > 0 && l.bytes > 0 }
