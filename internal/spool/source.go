package spool

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"sidecar/internal/record"
)

// Source delivers what the spool holds and is durable, the oldest first, as a source of
// the line (ship.Source). There is one for each spool. Its methods are for one
// goroutine; Ready is for any.
type Source struct {
	s      *Spool
	name   string
	decode func(*Message, *record.Entry)

	next    uint64 // the number of the next message
	file    file   // of the segment that is read, or nil
	segment uint64 // its first number
	sure    uint64 // and the last that was certainly acknowledged
	scan    *scanner
	ahead   bool // message, numbered next, is read and not delivered
	message Message
	waiting bool // a read failed and is to be tried again
	id      []byte
}

// NewSource returns the spool's source, which begins at the oldest message that is
// not confirmed. name labels it, see ship.Source. decode makes of a message what the
// line gets, for example by parsing a syslog header; the entry holds the message's
// text and envelope already, and may point into the message. nil adds nothing.
func (s *Spool) NewSource(name string, decode func(*Message, *record.Entry)) *Source {
	if decode == nil {
		decode = func(*Message, *record.Entry) {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Source{s: s, name: name, decode: decode, next: s.head + 1}
}

// Name returns the name.
func (c *Source) Name() string { return c.name }

// Run waits for ctx: a source does nothing beside Next.
func (c *Source) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready receives a value when there may be more.
func (c *Source) Ready() <-chan struct{} { return c.s.ready }

// Idle returns how long to wait for Ready: a moment if the disk could not be read.
func (c *Source) Idle(time.Time) time.Duration {
	if c.waiting {
		return time.Second
	}
	return time.Minute
}

// Next fills e with the next message. It returns false if there is none for now or
// the disk cannot be read for now, and io.EOF behind the last one after End. What
// cannot be read at all is counted and passed over.
func (c *Source) Next(e *record.Entry) (bool, error) {
	if ok, ended := c.peek(); !ok {
		if ended {
			return false, io.EOF
		}
		return false, nil
	}
	m := &c.message
	c.id = appendEventID(c.id[:0], c.s.public, c.next)
	*e = record.Entry{Message: m.Text, TimeUsec: m.TimeUsec, Priority: m.Priority, Facility: m.Facility, Host: m.Host,
		Identifier: m.Identifier, Unit: m.Unit, PID: m.PID, Transport: m.Transport, Peer: m.Peer,
		Origin: record.Origin{Before: c.next - 1}, ID: c.id}
	c.decode(m, e)
	c.ahead = false
	c.next++
	return true, nil
}

// EventID returns the event ID of message seq of the spool with the public ID id.
func EventID(id string, seq uint64) string { return string(appendEventID(nil, id, seq)) }

func appendEventID(dst []byte, id string, seq uint64) []byte {
	return strconv.AppendUint(append(append(dst, id...), '-'), seq, 16)
}

// peek reads the message numbered next, or, if that cannot be read, the one behind
// it. ended means that there is none and never will be.
func (c *Source) peek() (ok, ended bool) {
	c.waiting = false
	for !c.ahead {
		if c.file != nil {
			f, ok, err := c.scan.scan()
			if err != nil {
				c.waiting = true
				return false, false
			}
			if ok {
				c.take(f)
				continue
			}
		}
		if more, ended := c.advance(); !more {
			return false, ended
		}
	}
	return true, false
}

// take looks at a frame, unless it is in front of what is wanted.
func (c *Source) take(f frame) {
	if f.seq < c.next {
		return
	}
	c.passTo(f.seq)
	if c.message.parse(f.payload) != nil {
		c.passTo(f.seq + 1)
		return
	}
	c.ahead = true
}

// passTo moves to the message seq and counts those in between as lost or discarded.
func (c *Source) passTo(seq uint64) {
	if c.next < seq {
		c.s.mu.Lock()
		c.s.count(c.next, seq-1, c.sure)
		c.s.mu.Unlock()
		c.next = seq
	}
}

// count counts the messages first to last as not delivered, each once however often
// they are passed. Up to the head only what was discarded is missing, and above sure
// what was never acknowledged. mu must be held.
func (s *Spool) count(first, last, sure uint64) {
	for _, d := range s.discarded {
		s.stats.Discarded += s.counted.add(max(first, d.first), min(last, d.last))
	}
	s.stats.Lost += s.counted.add(max(first, s.head+1), min(last, sure))
}

// advance goes on to what has become durable, or to the next segment, when the
// scanner has no more. more is false if there is nothing, or nothing that can be
// opened now.
func (c *Source) advance() (more, ended bool) {
	seg, grown, ok, ended := c.s.find(c)
	if grown {
		c.scan.limit, c.scan.end, c.sure = seg.size, seg.last, seg.sure
		return true, false
	}
	if !ok {
		return false, ended // the file that is read may still grow
	}
	c.Close()
	file, err := c.s.disk.open(c.s.path(segmentName(seg.first)), false)
	switch {
	case err == nil:
		c.file, c.segment, c.sure = file, seg.first, seg.sure
		c.scan = newScanner(file, c.s.id.mask(), seg.size, seg.first, seg.last)
	case gone(err):
		c.sure = seg.sure
		c.passTo(seg.last + 1)
	default:
		c.waiting = true
		return false, false
	}
	return true, false
}

// find returns the segment that holds the message that c wants, and counts what is
// missing in front of it. grown means that it is the one which c reads already and
// that there is more of it; ended, that there is none and never will be.
func (s *Spool) find(c *Source) (seg segment, grown, ok, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		reading := c.file != nil && seg.first == c.segment
		if reading && c.scan.limit < seg.size {
			return seg, true, true, false
		}
		if seg.last < c.next {
			continue
		}
		from := max(c.next, seg.first)
		if from > c.next {
			s.count(c.next, seg.after, seg.after)
			c.next = from
		}
		if !reading {
			return seg, false, true, false
		}
		s.count(c.next, seg.last, seg.sure)
		c.next = seg.last + 1
	}
	if c.next <= s.tail {
		s.count(c.next, s.tail, s.sure)
		c.next = s.tail + 1
	}
	return seg, false, false, s.ended && len(s.pending.frames)+len(s.storing.frames) == 0
}

// position is where a Source stands.
type position struct {
	// Spool is the public part of the spool's ID, Seq the number of the last message
	// in front of the position. Without an ID it is the oldest message.
	Spool string `json:"spool"`
	Seq   uint64 `json:"seq"`
}

// Position returns the position behind the last message of Next, but before those
// of held.
func (c *Source) Position(held []record.Origin) (json.RawMessage, error) {
	last := c.next - 1
	for _, h := range held {
		last = min(last, h.Before)
	}
	return json.Marshal(position{c.s.public, last})
}

// Rewind goes to a position, also one that another process has saved. One of another
// spool, or of a message that is not there any more, stands for the oldest message
// that is not confirmed.
func (c *Source) Rewind(raw json.RawMessage) error {
	var p position
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("spool position: %w", err)
	}
	if p.Spool != c.s.public {
		p.Seq = 0
	}
	c.Close()
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	// Beyond the tail are messages that do not exist yet, and will be other ones.
	c.next = min(p.Seq, s.tail) + 1
	if c.next <= s.head {
		s.count(c.next, s.head, s.head) // what was delivered, and is discarded now
		c.next = s.head + 1
	}
	return nil
}

// Commit says that everything up to a position of this source is confirmed. It
// unlinks the segments that are not needed any more; a failure of that is counted,
// and tried again.
func (c *Source) Commit(raw json.RawMessage) error {
	var p position
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("spool position: %w", err)
	}
	if p.Spool != c.s.public || p.Seq >= c.next {
		return fmt.Errorf("spool position %q: message %d was not delivered", p.Spool, p.Seq)
	}
	c.s.confirm(p.Seq)
	return nil
}

// Lag returns how many messages wait to be delivered, and how old the first is.
func (c *Source) Lag(now time.Time) (uint64, time.Duration) {
	if ok, _ := c.peek(); !ok {
		return 0, 0
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.waiting(c.next), max(0, now.Sub(time.UnixMicro(c.message.TimeUsec)))
}

// Close closes the file that is read. The next call of Next opens it again.
func (c *Source) Close() error {
	c.ahead = false
	if c.file == nil {
		return nil
	}
	file := c.file
	c.file, c.scan = nil, nil
	return file.Close()
}
