package join

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidecar/internal/record"
)

// model checks a Joiner after every step: nothing is lost, invented, mixed or
// put in another order, the memory is bounded, and Held covers what waits.
type model struct {
	j     *Joiner
	now   time.Time
	start time.Time
	usec  int64
	n     uint64                     // entries so far
	wait  map[string][]*record.Entry // per stream: added and not delivered
	whole [][]record.Origin          // per delivered message of several entries: of these
	wrong string                     // the first thing that does not hold
}

func newModel(o Options) *model {
	start := time.Unix(1_794_904_130, 0)
	return &model{j: New(o), now: start, start: start, usec: 1_794_904_130_000_000, wait: map[string][]*record.Entry{}}
}

func (m *model) fail(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf("entry %d: ", m.n) + fmt.Sprintf(format, args...)
	}
}

// stream names what an entry keeps its order in.
func stream(e *record.Entry) string {
	if len(e.StreamID) > 0 {
		return string(e.BootID) + string(e.StreamID)
	}
	return fmt.Sprintf("%s %s %s %d", e.BootID, e.Container, e.PID, e.Priority)
}

// step does one thing: op chooses what, or the kind of entry; pause is in units
// of 10 ms.
func (m *model) step(op, pause uint8, text []byte) {
	m.now = m.now.Add(time.Duration(pause) * 10 * time.Millisecond)
	m.usec += int64(pause) * 10_000
	switch {
	case op >= 0xFE:
		m.j.Flush()
		if m.j.Pending() > 0 {
			m.fail("%d groups wait after Flush", m.j.Pending())
		}
	case op >= 0xFC:
		m.j.Expire(m.now)
		if at, ok := m.j.Deadline(); ok && !at.After(m.now) {
			m.fail("deadline %v is over after Expire", at)
		}
	default:
		m.add(op, text)
	}
	m.drain()
	m.check()
}

func (m *model) add(op uint8, text []byte) {
	m.n++
	if len(text) == 0 {
		text = []byte(".") // at the end of a record it could not be told from nothing
	}
	e := &record.Entry{Message: bytes.Clone(text), TimeUsec: m.usec, Priority: 6, PID: []byte("1"), BootID: []byte(boot),
		ID: fmt.Appendf(nil, "id-%d", m.n), Origin: record.Origin{File: m.n / 5, Before: m.n}}
	switch op & 3 {
	case 0, 1:
		e.StreamID, e.Transport = []byte(streamA), []byte("stdout")
	case 2:
		e.StreamID, e.Transport = []byte(streamB), []byte("stdout")
	default:
		e.Container, e.Transport, e.Partial = []byte("web"), []byte("journal"), op&4 != 0
		e.Priority = int8(op >> 3 & 1)
	}
	if len(e.StreamID) > 0 {
		e.LineBreak = []byte([]string{"", "", "", "line-max", "line-max", "nul", "eof", "pid-change"}[op>>2&7])
		if op>>5&7 == 7 {
			e.PID = []byte("2")
		}
	}
	mine := *e
	reflectClone(&mine)
	m.wait[stream(&mine)] = append(m.wait[stream(&mine)], &mine)
	m.j.Add(e, m.now)
	m.drain()
	scribble(e)
}

// drain takes what is complete and finds the entries that it was made of.
func (m *model) drain() {
	for e, ok := m.j.Next(); ok; e, ok = m.j.Next() {
		waiting := m.wait[stream(e)]
		if len(waiting) == 0 {
			m.fail("%q is invented", e.Message)
			return
		}
		first, rest, n := waiting[0], e.Message, 0
		for n == 0 || len(rest) > 0 {
			if n == len(waiting) {
				m.fail("%q is too long", e.Message)
				return
			}
			if n > 0 && !unfinished(waiting[n-1]) {
				if rest[0] != '\n' || len(first.StreamID) == 0 {
					m.fail("%q has no line end, or must have none", e.Message)
				}
				rest = rest[1:]
			}
			if !bytes.HasPrefix(rest, waiting[n].Message) || !bytes.Equal(first.PID, waiting[n].PID) {
				m.fail("%q of %q is not %q of %q", e.Message, e.PID, waiting[n].Message, waiting[n].PID)
				return
			}
			rest = rest[len(waiting[n].Message):]
			n++
		}
		if !bytes.Equal(e.ID, first.ID) || e.TimeUsec != first.TimeUsec || e.Origin != first.Origin {
			m.fail("%q has the values of another", e.Message)
		}
		if last := waiting[n-1]; !bytes.Equal(e.LineBreak, last.LineBreak) || e.Partial != last.Partial {
			m.fail("%q ends as another", e.Message)
		}
		if n > 1 && len(e.Message) > m.j.opt.MaxBytes {
			m.fail("%d bytes are joined", len(e.Message))
		}
		if n > 1 {
			var origins []record.Origin
			for _, part := range waiting[:n] {
				origins = append(origins, part.Origin)
			}
			m.whole = append(m.whole, origins)
		}
		m.wait[stream(e)] = waiting[n:]
	}
}

func (m *model) check() {
	held := m.j.Held(nil)
	var waiting []record.Origin
	for _, entries := range m.wait {
		for _, e := range entries {
			waiting = append(waiting, e.Origin)
			if !slices.ContainsFunc(held, func(h record.Origin) bool { return h.File == e.Origin.File && h.Before <= e.Origin.Before }) {
				m.fail("%v waits and is not held by %v", e.Origin, held)
			}
		}
	}
	again := func(o record.Origin) bool { // a reader that begins before what is held reads o
		return slices.ContainsFunc(held, func(h record.Origin) bool { return h.File == o.File && h.Before <= o.Before })
	}
	parts := slices.Concat(append(m.whole, waiting)...)
	for _, h := range held {
		if !slices.Contains(parts, h) {
			m.fail("%v is held without a reason", h)
		}
	}
	for _, origins := range m.whole {
		for _, o := range origins {
			if again(o) != again(origins[0]) && m.now.Sub(m.start) < maxHold*m.j.opt.Wait {
				m.fail("held %v cut %v", held, origins)
			}
		}
	}
	size := 0
	for _, g := range m.j.groups {
		size += len(g.message) + len(g.envelope) + overheadBytes
	}
	if size != m.j.bytes || size > m.j.opt.MaxPending {
		m.fail("%d bytes wait, counted %d, limit %d", size, m.j.bytes, m.j.opt.MaxPending)
	}
	if _, ok := m.j.Deadline(); ok != (m.j.Pending() > 0) || ok != (len(held) > 0) {
		m.fail("deadline %v with %d groups and %d held", ok, m.j.Pending(), len(held))
	}
}

// end flushes: everything must have been delivered then.
func (m *model) end() string {
	m.step(0xFF, 0, nil)
	for name, entries := range m.wait {
		if len(entries) > 0 {
			m.fail("%d entries of %q are lost", len(entries), name)
		}
	}
	return m.wrong
}

// shapes are lines that mean something.
var shapes = []string{"Error: x", "    at x (y)", "x", "_jsonrc:{", `  "a": [`, "  ]", "}", `_jsonrc:{"a":1}`, "/srv/a.js:1", "^", "Node.js v20", "panic: x",
	"2026-11-17 x", "AssertionError: x", "+ 1", "Traceback (most recent call last):", "Routes:", "<6>x", "{", "... 3 more", " ", "\x1b[32mx"}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(Options{
			MultiLine:  true,
			MaxBytes:   rapid.IntRange(1, 200).Draw(t, "MaxBytes"),
			MaxPending: rapid.IntRange(1, 8).Draw(t, "MaxPending") * 700,
		})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			text := rapid.SampledFrom(shapes).Draw(t, "text")
			m.step(rapid.Uint8().Draw(t, "op"), rapid.Uint8Range(0, 30).Draw(t, "pause"), []byte(text))
		}
		if wrong := m.end(); wrong != "" {
			t.Fatal(wrong)
		}
	})
}

// FuzzJoin reads steps from lines: the operation, the pause, the text.
func FuzzJoin(f *testing.F) {
	f.Add([]byte("\x00\x00Error: x\n\x00\x01    at x (y)\n\x0c\x00piece\n\x02\x00other\n\x00\x00end"), uint16(1000), uint16(5000))
	f.Add([]byte("\x07\x00part\n\x0f\x00stderr\n\x03\x00end\n\xfc\x10\n\xff\x00"), uint16(10), uint16(2000))
	for i := range shapes {
		f.Add(fmt.Appendf(nil, "\x00\x00%s\n\x00\x00%s\n\x00\x00%s", shapes[i], shapes[(i+1)%len(shapes)], shapes[(i+2)%len(shapes)]), uint16(100), uint16(3000))
	}
	f.Fuzz(func(t *testing.T, script []byte, maxBytes, maxPending uint16) {
		m := newModel(Options{MultiLine: true, MaxBytes: int(maxBytes), MaxPending: int(maxPending)})
		for l := range bytes.SplitSeq(script, []byte("\n")) {
			if len(l) >= 2 {
				m.step(l[0], l[1]%64, l[2:])
			}
		}
		if wrong := m.end(); wrong != "" {
			t.Fatal(wrong)
		}
	})
}
