// Package join puts entries that belong together into one before they are
// parsed: the pieces of a line that journald cut at its LineMax (48 KiB), the
// partial messages of a container's log driver, and the lines of a multi-line
// record in a service's standard output, a file or standard input: stack traces,
// Node's crash reports, pretty-printed and inspected objects.
//
// Pieces announce that more of their line follows (_LINE_BREAK=line-max,
// CONTAINER_PARTIAL_MESSAGE) and are joined without a separator. Blanks that
// journald strips at the end of a piece are not restored, and behind a line of
// exactly LineMax bytes, whose end journald does not tell, the next one is taken
// for its rest (the parser finds the documents of both). What waits too long
// for its end, or would exceed a limit, goes on as it is; the joined entry has
// the LineBreak and Partial of its last piece, so a missing end shows.
//
// Lines announce nothing, so only what looks like the beginning of a multi-line
// record waits for its continuation:
//
//	TypeError: x is not a function    an error, exception, warning or trace
//	/srv/app/index.js:12              where Node crashed
//	<--- Last few GCs --->            a dump of V8; panic:, Traceback
//	_jsonrc:{                         an object that is not closed on its line
//	Routes:                           a heading
//	    at run (/srv/app/index.js:3)  a stack whose head has passed
//
// Everything else passes at once: a whole JSON document, which never waits for
// a stack printed below it, and other plain lines ("Server listening on …").
// When a continuation ("  retries: 3", "}") comes behind a line that has passed,
// it passes too, but from then on all plain lines of its stream wait.
//
// A line that starts a record (a JSON document, a prefix, a time, "<6>") is
// never a continuation. Nothing is joined across streams, processes or boots,
// and the entries of one stream keep their order; streams may pass each other.
//
// The package is pure: no I/O, no clock, no logging.
package join

import (
	"bytes"
	"time"

	"sidecar/internal/record"
)

// Options are the settings of a Joiner. The zero value joins pieces only.
type Options struct {
	// MaxBytes is the length of one joined message; what comes after begins
	// another. An entry that is as long by itself passes. Default 1 MiB.
	MaxBytes int
	// MaxPending is the memory of all that waits, in bytes, with 1 KiB for the
	// management of each group; the oldest has to go when it is used up.
	// Default 4 MiB.
	MaxPending int
	// Wait is how long a record waits for its next line, and a tenth of how long
	// a record may take in all and a piece waits for the next one. Default 200 ms.
	Wait time.Duration
	// MultiLine joins the lines of a stream (see record.Entry) into records.
	MultiLine bool
	// Prefixes are the texts that announce a JSON document, as in parse.Options.
	// Default: "_jsonrc:".
	Prefixes []string
}

const (
	// maxGroups bounds the search for the group of an entry.
	maxGroups = 256
	// overheadBytes is the share of MaxPending that a group takes beside its bytes.
	overheadBytes = 1 << 10
	// patience is how many Waits a piece waits, since more of it was announced and
	// journald may be busy with a rotation, and how many a record may grow.
	patience = 10
	// maxHold is for how many Waits positions are held back by more than what waits.
	maxHold = 50
	// maxLearned bounds the streams that are known to print multi-line records.
	maxLearned = 1024
	// maxFree and maxKeep bound the memory that is kept for reuse: groups, and
	// bytes of each.
	maxFree, maxKeep = 16, 64 << 10
)

// Joiner joins entries. It is for one goroutine.
type Joiner struct {
	opt      Options             // immutable after New
	prefixes [][]byte            // immutable after New; none is empty
	groups   []*group            // that wait, in the order of their first entries
	added    uint64              // entries so far
	bytes    int                 // of all groups, with their overhead
	learned  map[string]struct{} // streams that print multi-line records
	ready    []ready             // what is complete
	taken    int                 // how many of ready Next has delivered
	free     []*group
}

// ready is a complete entry, of group g or, without one, given to Add.
type ready struct {
	e *record.Entry
	g *group
}

// New returns a Joiner with the settings o.
func New(o Options) *Joiner {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 20
	}
	if o.MaxPending <= 0 {
		o.MaxPending = 4 << 20
	}
	if o.Wait <= 0 {
		o.Wait = 200 * time.Millisecond
	}
	if len(o.Prefixes) == 0 {
		o.Prefixes = []string{"_jsonrc:"}
	}
	j := &Joiner{opt: o, learned: map[string]struct{}{}}
	for _, p := range o.Prefixes {
		if p != "" {
			j.prefixes = append(j.prefixes, []byte(p))
		}
	}
	return j
}

// Add takes an entry; now is the time of the wall clock. Next has what is
// complete after it, and must be called until there is no more before the next
// Add. An entry that need not wait is not copied.
//
// The time of e ends groups that have waited too long for it.
func (j *Joiner) Add(e *record.Entry, now time.Time) {
	j.recycle()
	j.added++
	if len(j.groups) > 0 && j.addToGroup(e, now) {
		return
	}
	k := single
	if !unfinished(e) {
		if k = j.begin(e.Message, e); k == single {
			j.ready = append(j.ready, ready{e: e})
			return
		}
	}
	j.start(e, now, k)
}

// unfinished reports whether more of the line of e follows.
func unfinished(e *record.Entry) bool {
	return e.Partial || len(e.LineBreak) > 0 && len(e.StreamID) > 0 && string(e.LineBreak) == "line-max"
}

// addToGroup completes the groups that e ends, and reports whether e belongs to
// one that goes on.
func (j *Joiner) addToGroup(e *record.Entry, now time.Time) bool {
	for i := 0; i < len(j.groups); {
		if g := j.groups[i]; e.TimeUsec > 0 && g.lastUsec > 0 && e.TimeUsec > g.dueUsec(j.opt.Wait) {
			j.complete(g)
			continue
		}
		i++
	}
	var g *group
	for _, other := range j.groups {
		if other.sameStream(e) {
			g = other
			break
		}
	}
	if g == nil {
		return false
	}
	size := len(e.Message)
	if !g.open {
		size++
	}
	if !bytes.Equal(g.entry.PID, e.PID) || len(g.message)+size > j.opt.MaxBytes || !g.open && !j.continues(g, e) {
		j.complete(g)
		return false
	}
	for len(j.groups) > 0 && j.bytes+size > j.opt.MaxPending {
		j.complete(j.groups[0])
	}
	if g.done {
		return false
	}
	j.bytes += size
	g.add(e, now)
	g.grew = j.added
	j.lineRead(g, e)
	return true
}

// start makes a group of e, unless there is no room for it: then e passes.
func (j *Joiner) start(e *record.Entry, now time.Time, k kind) {
	size := envelopeBytes(e) + len(e.Message) + overheadBytes
	if len(e.Message) >= j.opt.MaxBytes || size > j.opt.MaxPending {
		j.ready = append(j.ready, ready{e: e})
		return
	}
	for len(j.groups) > 0 && (j.bytes+size > j.opt.MaxPending || len(j.groups) >= maxGroups) {
		j.complete(j.groups[0])
	}
	var g *group
	if n := len(j.free); n > 0 {
		g, j.free = j.free[n-1], j.free[:n-1]
	} else {
		g = new(group)
	}
	g.begin(e, now, k)
	g.from, g.began, g.grew = j.added, j.added, j.added
	j.groups = append(j.groups, g)
	j.bytes += size
}

// lineRead completes g if it is whole with e, its last entry.
func (j *Joiner) lineRead(g *group, e *record.Entry) {
	switch {
	case g.open:
	case g.line == 0: // its pieces are joined now
		if g.kind = j.begin(g.message, e); g.kind == single {
			j.complete(g)
			return
		}
		g.lines()
	case g.next() || ends(e):
		j.complete(g)
	}
}

// ends reports whether no line of its process can follow in the stream of e.
func ends(e *record.Entry) bool {
	return string(e.LineBreak) == "eof" || string(e.LineBreak) == "pid-change"
}

// complete moves g to what is ready.
func (j *Joiner) complete(g *group) {
	for i, other := range j.groups {
		if other == g {
			j.groups = append(j.groups[:i], j.groups[i+1:]...)
			break
		}
	}
	j.keepWhole(g)
	j.bytes -= envelopeBytes(&g.entry) + len(g.message) + overheadBytes
	g.done = true
	g.entry.Message, g.entry.LineBreak = g.message, g.lineBreak
	j.ready = append(j.ready, ready{&g.entry, g})
}

// keepWhole makes what stands before the last entry of g stand before all of g.
// From a position between these a reader would begin in the middle of g,
// and take its rest for another message.
//
// In a source that is never without a group this could go on from group to
// group, so that no position is ever behind them: it ends after maxHold Waits.
func (j *Joiner) keepWhole(g *group) {
	if g.began == g.grew || g.last.Sub(g.since) > maxHold*j.opt.Wait {
		return
	}
	for _, other := range j.groups {
		if other.from < g.grew {
			other.hold(g.origins)
			other.from = min(other.from, g.from)
			if g.since.Before(other.since) {
				other.since = g.since
			}
		}
	}
}

// recycle takes back the memory of what Next has delivered.
func (j *Joiner) recycle() {
	if j.taken == 0 || j.taken < len(j.ready) {
		return
	}
	for _, r := range j.ready {
		if r.g != nil && len(j.free) < maxFree && cap(r.g.message) <= maxKeep && cap(r.g.envelope) <= maxKeep {
			j.free = append(j.free, r.g)
		}
	}
	if cap(j.ready) > maxGroups {
		j.ready = nil
	}
	j.ready, j.taken = j.ready[:0], 0
}

// Next returns the next complete entry, which is valid until the next Add,
// Expire, Flush or Reset; ok is false if there is none for now. An entry of
// several has the ID, the Origin, the time and the other values of the first,
// and LineBreak and Partial of the last. Its lines are separated by "\n".
func (j *Joiner) Next() (e *record.Entry, ok bool) {
	if j.taken >= len(j.ready) {
		return nil, false
	}
	e = j.ready[j.taken].e
	j.taken++
	return e, true
}

// Expire completes what has waited long enough by the wall clock. It is for
// when the sources have no more for now: with a backlog the times of the entries
// decide.
func (j *Joiner) Expire(now time.Time) {
	j.recycle()
	for i := 0; i < len(j.groups); {
		if g := j.groups[i]; !now.Before(g.due(j.opt.Wait)) {
			j.complete(g)
			continue
		}
		i++
	}
}

// Deadline returns when Expire is needed next; ok is false if nothing waits.
func (j *Joiner) Deadline() (at time.Time, ok bool) {
	for i, g := range j.groups {
		if t := g.due(j.opt.Wait); i == 0 || t.Before(at) {
			at = t
		}
	}
	return at, len(j.groups) > 0
}

// Flush completes everything that waits.
func (j *Joiner) Flush() {
	j.recycle()
	for len(j.groups) > 0 {
		j.complete(j.groups[0])
	}
}

// Reset forgets everything that waits and what Next has not delivered. It is for
// after a rewind of the sources, which deliver it again.
func (j *Joiner) Reset() {
	j.Flush()
	j.taken = len(j.ready)
	j.recycle()
}

// Held appends where what Next has not delivered begins, in each part of the
// source that it comes from, and returns dst. A position behind one of these
// would lose it. What Next has delivered and such a position would cut in two is
// in it too.
func (j *Joiner) Held(dst []record.Origin) []record.Origin {
	for _, g := range j.groups {
		dst = append(dst, g.origins...)
	}
	for _, r := range j.ready[j.taken:] {
		if r.g == nil {
			dst = append(dst, r.e.Origin)
		} else {
			dst = append(dst, r.g.origins...)
		}
	}
	return dst
}

// Pending returns how many joined entries wait for more.
func (j *Joiner) Pending() int { return len(j.groups) }
