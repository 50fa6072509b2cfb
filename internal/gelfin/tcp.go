package gelfin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"sidecar/internal/spool"
)

const (
	readBytes = 64 << 10
	// acceptPause is how long to wait after accept failed, for descriptors to come back.
	acceptPause = 100 * time.Millisecond
)

// runTCP serves connections until the listener is closed, and then those that are open.
func (l *Listener) runTCP(storing context.Context, ln net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.o.Log.Warn("accept gelf connection", "err", err)
			timer := time.NewTimer(acceptPause)
			select {
			case <-timer.C:
			case <-storing.Done():
				timer.Stop()
			}
			continue
		}
		if !l.enter(c) {
			c.Close()
			continue
		}
		wg.Go(func() {
			defer l.leave(c)
			defer c.Close() // after everything is stored: the end that the sender sees confirms it
			l.serve(storing, c)
		})
	}
}

// serve reads frames, which end in NUL, until the stream ends, and stores those of each
// read together.
func (l *Listener) serve(storing context.Context, c net.Conn) {
	f := framer{max: l.o.MaxMessageBytes, discard: l.o.OnDiscard}
	peer := address(c.RemoteAddr())
	var msgs []spool.Message
	for {
		l.extend(c)
		n, err := c.Read(f.room())
		frames := f.take(n)
		if err != nil {
			frames = append(frames, f.end(errors.Is(err, io.EOF))...)
		}
		msgs = msgs[:0]
		for _, text := range frames {
			msgs = append(msgs, l.message(text, "tcp", peer))
		}
		if !l.store(storing, msgs) || err != nil {
			return
		}
	}
}

// extend gives a connection time for another read, unless Run is ending.
func (l *Listener) extend(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closing {
		c.SetReadDeadline(l.o.Now().Add(l.o.IdleTimeout))
	}
}

// framer cuts a stream at NUL bytes. A frame longer than max is passed over.
type framer struct {
	max      int
	discard  func(reason string, messages uint64)
	buf      []byte
	start    int // of the frame that is not complete; up to scanned it has no NUL
	scanned  int
	skipping bool // it is too long
	frames   [][]byte
}

// room returns space for the next read; frames are valid until then.
func (f *framer) room() []byte {
	rest := f.buf[f.start:]
	f.scanned -= f.start
	f.start = 0
	if cap(f.buf) > 4*readBytes && len(rest) < readBytes {
		f.buf = nil // one huge frame must not stay for the connection's life
	}
	if cap(f.buf) < len(rest)+readBytes {
		f.buf = make([]byte, 0, 2*len(rest)+readBytes)
	}
	f.buf = append(f.buf[:0], rest...)
	return f.buf[len(f.buf) : len(f.buf)+readBytes]
}

// take returns the frames that n more bytes complete.
func (f *framer) take(n int) [][]byte {
	f.buf = f.buf[:len(f.buf)+n]
	f.frames = f.frames[:0]
	for {
		i := bytes.IndexByte(f.buf[f.scanned:], 0)
		if i < 0 {
			break
		}
		frame := f.buf[f.start : f.scanned+i]
		f.scanned += i + 1
		f.start = f.scanned
		f.put(frame)
		f.skipping = false
	}
	f.scanned = len(f.buf)
	if len(f.buf)-f.start > f.max {
		f.put(f.buf[f.start:])
		f.skipping = true
	}
	if f.skipping {
		f.start = len(f.buf)
	}
	return f.frames
}

// put takes a frame, or counts it if it is too long.
func (f *framer) put(frame []byte) {
	switch {
	case f.skipping: // counted
	case len(frame) > f.max:
		f.discard(ReasonTooLong, 1)
	case !isBlank(frame):
		f.frames = append(f.frames, frame)
	}
}

// end returns what has no NUL at the end of an orderly stream, if it is a whole document
// (as Graylog takes it); half a one is counted, the sender will send it again.
func (f *framer) end(orderly bool) [][]byte {
	rest := f.buf[f.start:]
	switch {
	case f.skipping || isBlank(rest):
		return nil
	case orderly && json.Valid(rest):
		return [][]byte{rest}
	}
	f.discard(ReasonIncomplete, 1)
	return nil
}
