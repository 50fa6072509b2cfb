package gelfin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"sidecar/internal/budget"
	"sidecar/internal/spool"
)

const (
	// acceptPause is how long to wait after accept failed, for descriptors to come back.
	acceptPause = 100 * time.Millisecond
	// maxBatch bounds the documents that are handed over at once, and smallBatch does
	// while the buffer is small: a read can hold very many short ones.
	maxBatch     = 256
	smallBatch   = 32
	messageBytes = 256 // of memory for each
)

// runTCP serves connections until the listener is closed, and then those that are open.
func (l *Listener) runTCP(storing context.Context, ln net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	failing := false
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !failing {
				l.o.Log.Warn("cannot accept connections, tries again", "source", l.o.Listen, "err", err)
			}
			failing = true
			timer := time.NewTimer(acceptPause)
			select {
			case <-timer.C:
			case <-storing.Done():
				timer.Stop()
			}
			continue
		}
		failing = false
		// The end that a sender sees says that everything is stored. So whatever else ends
		// the connection, the death of this process too, resets it.
		c.(*net.TCPConn).SetLinger(0)
		if !l.enter(c) {
			c.Close()
			continue
		}
		wg.Go(func() {
			defer l.leave(c)
			defer c.Close()
			if l.serve(storing, c) {
				c.(*net.TCPConn).SetLinger(-1)
			}
		})
	}
}

// serve reads frames, which end in NUL, until the stream ends, and stores those of each
// read together. It reports whether the sender has ended it and everything is stored.
func (l *Listener) serve(storing context.Context, c net.Conn) bool {
	s := stream{l: l, conn: c, peer: address(c.RemoteAddr()),
		frames: framer{max: l.o.MaxMessageBytes, discard: l.discard, in: l.o.Budget.Buffer(l.o.MaxMessageBytes, maxBatch*messageBytes)}}
	defer s.frames.in.Close()
	for {
		large := s.frames.in.Large()
		space, err := s.frames.in.Space(storing)
		if err != nil {
			l.fail(err)
			return false
		}
		switch now := s.frames.in.Large(); {
		case now && !large:
			s.begun = l.o.Now()
		case large && !now:
			s.batch = nil
		}
		lingers := s.extend()
		n, err := c.Read(space)
		s.frames.in.Wrote(n)
		if lingers && n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if !s.deliver(storing, err) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF) && !l.ending() // else the end may be our own
		}
	}
}

// stream is one connection.
type stream struct {
	l      *Listener
	conn   net.Conn
	peer   []byte
	frames framer
	batch  []spool.Message
	begun  time.Time // when the document that is being read was, or its memory was there
}

// extend gives the connection time for another read, unless Run is ending. It reports
// whether that time is short because its memory is not needed.
func (s *stream) extend() (lingers bool) {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return false
	}
	until := l.o.Now().Add(l.o.IdleTimeout)
	switch {
	case s.frames.in.Spare():
		until, lingers = l.o.Now().Add(budget.Linger), true
	case s.frames.in.Large():
		until = s.begun.Add(l.o.SlowTimeout)
	}
	s.conn.SetReadDeadline(until)
	return lingers
}

// deliver stores the documents of a read, and at the end of the stream what is left.
func (s *stream) deliver(storing context.Context, end error) bool {
	most := smallBatch
	if s.frames.in.Large() {
		most = maxBatch
	}
	for more := true; more; {
		var text []byte
		s.batch = s.batch[:0]
		for more && len(s.batch) < most {
			if text, more = s.frames.next(); more {
				s.batch = append(s.batch, s.l.message(text, "tcp", s.peer))
			}
		}
		if !more && end != nil {
			if text, more = s.frames.end(errors.Is(end, io.EOF)); more {
				s.batch = append(s.batch, s.l.message(text, "tcp", s.peer))
			}
			more = false
		}
		if len(s.batch) > 0 {
			s.begun = s.l.o.Now()
		}
		if !s.l.store(storing, s.batch) {
			return false
		}
	}
	return true
}

// framer cuts a stream at NUL bytes. A frame longer than max is passed over.
type framer struct {
	max      int
	discard  func(reason string, messages uint64)
	in       *budget.Buffer
	scanned  int  // bytes of it that hold no NUL
	skipping bool // the frame is too long, and counted
}

// next returns the next frame that is complete and not blank. It is valid until more is
// read.
func (f *framer) next() ([]byte, bool) {
	for {
		rest := f.in.Rest()
		i := bytes.IndexByte(rest[f.scanned:], 0)
		if i < 0 {
			f.scanned = len(rest)
			if f.skipping || len(rest) > f.max {
				f.skip()
				f.in.Pass(len(rest))
				f.scanned = 0
			}
			return nil, false
		}
		frame := rest[:f.scanned+i]
		f.in.Pass(len(frame) + 1)
		f.scanned = 0
		switch {
		case f.skipping:
			f.skipping = false
		case len(frame) > f.max:
			f.discard(ReasonTooLong, 1)
		case !isBlank(frame):
			return frame, true
		}
	}
}

// skip notes that the frame is too long.
func (f *framer) skip() {
	if !f.skipping {
		f.discard(ReasonTooLong, 1)
	}
	f.skipping = true
}

// end returns what has no NUL at the end of an orderly stream, if it is a whole document
// (as Graylog takes it); half a one is counted, the sender will send it again.
func (f *framer) end(orderly bool) ([]byte, bool) {
	rest := f.in.Rest()
	switch {
	case f.skipping || isBlank(rest):
		return nil, false
	case orderly && json.Valid(rest):
		return rest, true
	}
	f.discard(ReasonIncomplete, 1)
	return nil, false
}
