package gelftest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// readBytes is how much is read at once, as Graylog does: frames that came in
// one read with a bad frame are still decoded.
const readBytes = 8 << 10

// errTooShort is what the decoder says to fewer than 2 bytes; on a stream it
// closes the connection.
var errTooShort = errors.New("gelf message is too short")

// framer cuts a stream at a delimiter. Each byte is looked at once.
type framer struct {
	delimiter byte
	max       int
	buf       []byte
	start     int // of the frame that is not complete
	scanned   int // up to here there is no delimiter
}

// room returns space for the next read, to be confirmed by took.
func (f *framer) room() []byte {
	const keep = 64 << 10
	if f.start == len(f.buf) {
		f.start, f.scanned, f.buf = 0, 0, f.buf[:0]
		if cap(f.buf) > keep {
			f.buf = nil // one huge frame must not stay for the connection's life
		}
	}
	if cap(f.buf)-len(f.buf) < readBytes {
		rest := f.buf[f.start:]
		target := f.buf[:0]
		if cap(f.buf) < len(rest)*2+readBytes {
			target = make([]byte, 0, max(keep, 2*(len(rest)+readBytes)))
		}
		f.buf = append(target, rest...)
		f.scanned -= f.start
		f.start = 0
	}
	return f.buf[len(f.buf) : len(f.buf)+readBytes]
}

func (f *framer) took(n int) { f.buf = f.buf[:len(f.buf)+n] }

// next returns the next frame, valid until room. more is false if there is none
// before the next read. err says that the frame is too long; it is skipped, with
// all that was read of it if its end has not come.
func (f *framer) next() (frame []byte, more bool, err error) {
	i := bytes.IndexByte(f.buf[f.scanned:], f.delimiter)
	if i < 0 {
		f.scanned = len(f.buf)
		if n := len(f.buf) - f.start; n > f.max {
			f.start = len(f.buf)
			return nil, false, fmt.Errorf("frame of %d bytes and more is longer than %d", n, f.max)
		}
		return nil, false, nil
	}
	frame = f.buf[f.start : f.scanned+i]
	f.scanned += i + 1
	f.start = f.scanned
	if len(frame) > f.max {
		return nil, true, fmt.Errorf("frame of %d bytes is longer than %d", len(frame), f.max)
	}
	return frame, true, nil
}

// rest returns what has no delimiter, and forgets it.
func (f *framer) rest() []byte {
	rest := f.buf[f.start:]
	f.start, f.scanned = len(f.buf), len(f.buf)
	return rest
}

func (in *Input) acceptTCP() {
	for {
		nc, err := in.tcp.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				in.fail(err)
			}
			return
		}
		c := nc.(*conn) // all that a gate accepts are
		if !in.enter() {
			c.reset()
			return
		}
		go func() {
			defer in.handlers.Done()
			defer c.Close()
			in.serveTCP(c)
		}()
	}
}

// enter adds a handler that Run waits for, unless the Input is closing.
func (in *Input) enter() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closing {
		in.handlers.Add(1)
	}
	return !in.closing
}

// serveTCP reads c to its end.
func (in *Input) serveTCP(c *conn) {
	stream := net.Conn(c)
	if in.o.TLS != nil {
		secure := tls.Server(c, in.o.TLS)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := secure.HandshakeContext(ctx)
		cancel()
		if err != nil {
			in.o.Logf("%s: tls handshake: %v", c.RemoteAddr(), err)
			return
		}
		in.mu.Lock()
		c.half = secure
		in.mu.Unlock()
		stream = secure
	}
	pass, err := in.readFrames(c, stream)
	if !pass {
		c.hold(func() bool { return c.frozen })
		return
	}
	if !errors.Is(err, io.EOF) {
		in.o.Logf("%s: close: %v", c.RemoteAddr(), err)
	}
	c.hold(func() bool { return in.neverEOF })
	// EOF confirms, so everything must be safe before.
	if !in.beforeClose() {
		c.reset()
		return
	}
	stream.Close()
}

// readFrames hands the frames of stream to the Sink, one after the other, until
// the stream ends or holds a frame that closes the connection. pass is false if
// the connection was cut off by our side.
func (in *Input) readFrames(c *conn, stream io.Reader) (pass bool, err error) {
	f := framer{max: in.o.MaxFrameBytes}
	m := c.message("tcp")
	for err == nil {
		var n int
		n, err = stream.Read(f.room())
		f.took(n)
		for more := true; more; {
			var frame []byte
			var bad error
			frame, more, bad = f.next()
			switch {
			case bad != nil:
				err = bad
			case !more:
			case len(frame) < 2:
				err = errTooShort
			case !in.deliver(c, m, frame):
				return false, nil
			}
		}
	}
	// What has no NUL at the end is a frame too: complete JSON is accepted,
	// truncated JSON is not.
	if tail := f.rest(); len(tail) >= 2 && !in.deliver(c, m, tail) {
		return false, nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return !c.dead && !c.frozen, err
}

// hold waits while while returns true, with in.mu held, and c is open.
func (c *conn) hold(while func() bool) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	for while() && !c.dead {
		c.in.cond.Wait()
	}
}
