package join

import (
	"bytes"
	"time"

	"sidecar/internal/record"
)

// group is entries that are being joined.
type group struct {
	entry     record.Entry    // the first; its slices are in envelope
	envelope  []byte          // owned
	message   []byte          // owned: what is joined so far
	lineBreak []byte          // of the last entry
	origins   []record.Origin // what a position must be before, one per part of the source
	open      bool            // the last line waits for its next piece
	done      bool            // complete
	line      int             // where the last line begins in message

	kind   kind
	depth  int // document: brackets that are open
	indent int // document: of its first line

	firstUsec, lastUsec int64     // times of the first and last entry
	first, last         time.Time // when these were added
	began, grew         uint64    // numbers of the first and last entry
	from                uint64    // number of the first entry behind origins
	since               time.Time // when it was added
}

// begin makes g a group of e alone.
func (g *group) begin(e *record.Entry, now time.Time, k kind) {
	*g = group{
		entry:    *e,
		envelope: g.envelope[:0], message: append(g.message[:0], e.Message...),
		lineBreak: append(g.lineBreak[:0], e.LineBreak...), origins: append(g.origins[:0], e.Origin),
		open: unfinished(e), kind: k,
		firstUsec: e.TimeUsec, lastUsec: e.TimeUsec, first: now, last: now, since: now,
	}
	g.entry.Message, g.entry.LineBreak = nil, nil
	if n := envelopeBytes(e); cap(g.envelope) < n {
		g.envelope = make([]byte, 0, n)
	}
	for _, field := range envelopeFields(&g.entry) {
		start := len(g.envelope)
		g.envelope = append(g.envelope, *field...)
		*field = g.envelope[start:len(g.envelope):len(g.envelope)]
	}
	if !g.open {
		g.lines()
	}
}

// envelopeFields returns the slices of e that the whole joined entry shares.
func envelopeFields(e *record.Entry) [13]*[]byte {
	return [...]*[]byte{&e.Host, &e.Identifier, &e.Unit, &e.PID, &e.Facility, &e.Transport, &e.BootID, &e.Container, &e.StreamID, &e.ID,
		&e.MsgID, &e.StructuredData, &e.Peer}
}

// envelopeBytes returns the length of these together.
func envelopeBytes(e *record.Entry) (n int) {
	return len(e.Host) + len(e.Identifier) + len(e.Unit) + len(e.PID) + len(e.Facility) + len(e.Transport) +
		len(e.BootID) + len(e.Container) + len(e.StreamID) + len(e.ID) + len(e.MsgID) + len(e.StructuredData) + len(e.Peer)
}

// sameStream reports whether e is of the stream that g is of. A container's log
// driver gives one priority to its standard output and another to its standard
// error; nothing else tells them apart.
func (g *group) sameStream(e *record.Entry) bool {
	if !bytes.Equal(g.entry.StreamID, e.StreamID) || !bytes.Equal(g.entry.BootID, e.BootID) {
		return false
	}
	return len(e.StreamID) > 0 ||
		bytes.Equal(g.entry.Container, e.Container) && bytes.Equal(g.entry.PID, e.PID) && g.entry.Priority == e.Priority
}

// add appends e, a piece of the last line or a line.
func (g *group) add(e *record.Entry, now time.Time) {
	if !g.open {
		g.message = append(g.message, '\n')
		g.line = len(g.message)
	}
	g.message = append(g.message, e.Message...)
	g.lineBreak = append(g.lineBreak[:0], e.LineBreak...)
	g.entry.Partial = e.Partial
	g.open = unfinished(e)
	g.lastUsec, g.last = e.TimeUsec, now
	// The journal may have been rotated in between; positions are per file.
	g.hold([]record.Origin{e.Origin})
}

// hold makes g stand before all of origins.
func (g *group) hold(origins []record.Origin) {
next:
	for _, o := range origins {
		for i, have := range g.origins {
			if have.File == o.File {
				g.origins[i].Before = min(have.Before, o.Before)
				continue next
			}
		}
		g.origins = append(g.origins, o)
	}
}

// due returns when g has waited long enough by the wall clock.
func (g *group) due(wait time.Duration) time.Time {
	last, whole := g.last.Add(wait), g.first.Add(patience*wait)
	switch {
	case g.open:
		return g.last.Add(patience * wait)
	case whole.Before(last):
		return whole
	}
	return last
}

// dueUsec returns the same in the time of entries.
func (g *group) dueUsec(wait time.Duration) int64 {
	usec := wait.Microseconds()
	if g.open {
		return g.lastUsec + patience*usec
	}
	return min(g.lastUsec+usec, g.firstUsec+patience*usec)
}
