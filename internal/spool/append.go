package spool

import (
	"context"
	"fmt"
	"time"
)

// batchBytes is where a batch is stored without waiting for more.
const batchBytes = 1 << 20

// Append stores messages, in their order, and returns nil when they are durable, and
// with them all that was gathered. Messages that several calls bring while a sync goes
// on share the next one; a call brings best what has come within some milliseconds.
// Nothing of msgs is kept.
//
// While the spool is full and OnFull is Block, or the disk fails, Append waits and
// tries again, until ctx is done. Then, and after ErrClosed, a part of the messages
// may be stored, now or by a later call. ErrTooLong comes before anything is stored.
func (s *Spool) Append(ctx context.Context, msgs []Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.gather(ctx, msgs); err != nil {
		return err
	}
	for last := s.last(); s.tail < last; {
		if err := s.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Gather is Append without the promise: the messages are durable when a later call of
// Append, also one without messages, or Close returns nil. Until then they are in
// memory, at most about 2 MiB; to make room Gather stores, and waits like Append.
func (s *Spool) Gather(ctx context.Context, msgs []Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gather(ctx, msgs)
}

// gather adds messages to the pending batch. mu must be held.
func (s *Spool) gather(ctx context.Context, msgs []Message) error {
	for i := range msgs {
		if len(msgs[i].Text) > MaxMessageBytes {
			return ErrTooLong
		}
	}
	for i := range msgs {
		if err := s.admit(ctx, &msgs[i]); err != nil {
			return err
		}
		s.put(&msgs[i])
	}
	return nil
}

// last returns the number of the last message that was put. mu must be held.
func (s *Spool) last() uint64 {
	switch {
	case len(s.pending.frames) > 0:
		return s.pending.last
	case len(s.storing.frames) > 0:
		return s.storing.last
	}
	return s.tail
}

// put adds m to the pending batch. mu must be held.
func (s *Spool) put(m *Message) {
	seq := s.next
	s.next++
	if len(s.pending.frames) == 0 {
		s.pending.first = seq
	}
	s.pending.frames = appendFrame(s.pending.frames, s.id.mask(), s.pending.first, seq, m)
	s.pending.last = seq
}

// admit waits until there is room for m. mu must be held.
func (s *Spool) admit(ctx context.Context, m *Message) error {
	for {
		switch {
		case s.closed:
			return ErrClosed
		case len(s.pending.frames) >= batchBytes:
			if err := s.step(ctx); err != nil {
				return err
			}
		case s.bytes+int64(len(s.pending.frames)+len(s.storing.frames)+maxFrame(m)) <= s.o.MaxBytes:
			return nil
		case s.makeRoom():
		case len(s.pending.frames)+len(s.storing.frames) > 0: // to be confirmed, it has to be stored first
			if err := s.step(ctx); err != nil {
				return err
			}
		default:
			s.setTrouble(errBudget)
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("append to the spool: %w: %w", errBudget, err)
			}
			again := time.AfterFunc(s.o.retryAfter, s.unhold)
			s.wait(ctx)
			again.Stop()
		}
	}
}

// step stores what is pending, or waits while another call does so, or until it is
// time to try again. mu must be held.
func (s *Spool) step(ctx context.Context) error {
	switch {
	case s.closed:
		return ErrClosed
	case ctx.Err() != nil:
		if s.trouble != nil {
			return fmt.Errorf("append to the spool: %w: %w", s.trouble, ctx.Err())
		}
		return fmt.Errorf("append to the spool: %w", ctx.Err())
	case s.busy || s.held != nil:
		s.wait(ctx)
	default:
		s.flush()
	}
	return nil
}

// flush stores one batch. mu must be held, and is released meanwhile; busy and held
// must not be set.
func (s *Spool) flush() {
	if len(s.storing.frames) == 0 {
		s.storing, s.pending = s.pending, batch{frames: s.storing.frames}
	}
	s.busy = true
	s.mu.Unlock()
	err := s.store(&s.storing)
	s.mu.Lock()
	s.busy = false
	if err != nil {
		s.stats.Failures++
		s.writing = 0
		s.hold(err)
	} else {
		s.stored()
	}
	s.changed.Broadcast()
}

// stored takes the stored batch into the books. mu must be held.
func (s *Spool) stored() {
	seg := s.active.segment
	if last := len(s.segments) - 1; last >= 0 && s.segments[last].first == seg.first {
		s.bytes += seg.size - s.segments[last].size
		s.segments[last] = seg
	} else {
		s.segments, s.bytes = append(s.segments, seg), s.bytes+seg.size
	}
	s.writing, s.tail, s.sure = seg.first, s.storing.last, s.storing.last
	s.stats.Appended += s.storing.last - s.storing.first + 1
	s.stats.AppendedBytes += uint64(len(s.storing.frames))
	s.stats.Syncs++
	s.storing = batch{frames: s.storing.frames[:0]}
	if cap(s.storing.frames) > 2*batchBytes {
		s.storing.frames = nil
	}
	s.setTrouble(nil)
	s.wake()
}

// setTrouble says why nothing is stored, or that it is again. mu must be held.
func (s *Spool) setTrouble(err error) {
	ended := s.trouble != nil && err == nil
	s.trouble = err
	switch {
	case s.o.OnTrouble == nil:
	case err != nil && !s.told:
		s.told = true
		s.o.OnTrouble(err)
	case ended:
		s.calmSince = time.Now()
		if s.calm != nil {
			s.calm.Stop()
		}
		s.calm = time.AfterFunc(s.o.calmAfter, s.tellCalm)
	}
}

// tellCalm tells that there is no more trouble, if there was none for long enough.
func (s *Spool) tellCalm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble == nil && s.told && !s.closed && time.Since(s.calmSince) >= s.o.calmAfter {
		s.told = false
		s.o.OnTrouble(nil)
	}
}

// hold puts off the next attempt to store, unless discarding made room. mu must be held.
func (s *Spool) hold(err error) {
	if isFull(err) && s.makeRoom() {
		return
	}
	s.held = err
	s.setTrouble(err)
	if s.closed {
		return
	}
	s.retry = time.AfterFunc(s.o.retryAfter, s.unhold)
}

// unhold lets the next attempt begin.
func (s *Spool) unhold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = nil
	s.changed.Broadcast()
}
