package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/budget"
	"sidecar/internal/socket"
	"sidecar/internal/spool"
)

// accept serves the connections of s until ctx is done or the sink fails.
func (l *Listener) accept(ctx, storing context.Context, s *socket.Socket) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.Listener.Close() })()
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()

	var failure error
	var once sync.Once
	open := &connections{byAddress: map[netip.Addr]int{}}
	delay := time.Duration(0)
	for {
		c, err := s.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			cancel()
			work.Wait()
			return failure
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		case err != nil:
			// For want of descriptors or memory the connection stays in the kernel's queue.
			l.counts.acceptError.Add(1)
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			if delay == 5*time.Millisecond {
				l.o.Log.Warn("cannot accept connections, tries again", "source", l.o.Listen, "err", err)
			}
			wait(ctx, delay)
			continue
		}
		delay = 0
		l.counts.accepted.Add(1)
		peer := peerOf(c)
		if !l.admit(open, peer, scarce(c)) {
			c.Close()
			continue
		}
		work.Go(func() {
			defer open.remove(peer)
			l.counts.connections.Add(1)
			defer l.counts.connections.Add(-1)
			if err := l.serve(ctx, storing, c, peer); err != nil {
				once.Do(func() { failure = err; cancel() })
			}
		})
	}
}

// wait waits for d or the end of ctx.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// peerOf returns the address of the other side; for a unix socket the zero Addr.
func peerOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// spareDescriptors are left to others: the spool's next segment, the output's next
// connection, files of the state.
const spareDescriptors = 8

// scarce reports whether spareDescriptors are all that is left behind c. A new
// descriptor has the lowest number that is free (open(2)), so its number tells.
func scarce(c net.Conn) bool {
	var limit unix.Rlimit
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	number := uint64(0)
	_ = raw.Control(func(fd uintptr) { number = uint64(fd) }) // an error: c is closed
	return number+spareDescriptors >= limit.Cur
}

// connections counts the open connections of one socket.
type connections struct {
	mu        sync.Mutex
	total     int
	byAddress map[netip.Addr]int
}

// admit counts a connection of peer, if the limits allow one more. Senders on a unix
// socket have no address; only the total counts for them.
func (l *Listener) admit(c *connections, peer netip.Addr, scarce bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case scarce, c.total >= l.o.MaxConnections:
		l.counts.refusedTotal.Add(1)
		return false
	case peer.IsValid() && c.byAddress[peer] >= l.o.MaxConnectionsPerAddress:
		l.counts.refusedAddress.Add(1)
		return false
	}
	c.total++
	c.byAddress[peer]++
	return true
}

func (c *connections) remove(peer netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.byAddress[peer]--; c.byAddress[peer] == 0 {
		delete(c.byAddress, peer)
	}
}

// serve reads one connection to its end. When ctx is done, it reads what has come and
// no more. The error is the sink's.
func (l *Listener) serve(ctx, storing context.Context, c net.Conn, peer netip.Addr) error {
	defer c.Close()
	// The end that a sender sees after its own says that everything is stored. So whatever
	// else ends the connection, the death of this process too, resets it.
	linger(c, 0)
	// The kernel hands out what it holds, and then the end of the stream.
	defer context.AfterFunc(ctx, func() {
		if half, ok := c.(interface{ CloseRead() error }); ok {
			_ = half.CloseRead() // an error: the other side is gone
		}
	})()
	st := &stream{l: l, conn: c, frames: newFrames(l.o.Framing, l.o.MaxMessageBytes, l.o.Budget),
		envelope: spool.Message{Source: []byte(source), Priority: -1, Transport: []byte(c.LocalAddr().Network())}}
	if peer.IsValid() {
		st.envelope.Peer = []byte(peer.WithZone("").String())
		st.envelope.Host = st.envelope.Peer
	}
	if l.tls != nil {
		t := tls.Server(c, l.tls)
		st.conn, st.envelope.Transport = t, []byte("tls")
		if err := l.handshake(ctx, t); err != nil {
			l.counts.handshakes.Add(1)
			l.o.Log.Debug("no TLS handshake", "source", l.o.Listen, "peer", peer, "err", err)
			return nil
		}
	}
	err := st.run(ctx, storing)
	if st.stored {
		linger(c, -1)
		st.conn.Close() // with TLS a close_notify first (RFC 8446 section 6.1)
	}
	return err
}

// linger sets what the end of a TCP connection does: with 0 it is a reset, with -1 it is in
// order (SO_LINGER, socket(7)).
func linger(c net.Conn, seconds int) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(seconds) // an error: the other side is gone
	}
}

func (l *Listener) handshake(ctx context.Context, t *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, l.o.HandshakeTimeout)
	defer cancel()
	return t.HandshakeContext(ctx)
}

// stream is one connection.
type stream struct {
	l        *Listener
	conn     net.Conn
	frames   *frames
	envelope spool.Message // of all its messages
	batch    []spool.Message

	stored   bool      // the sender has ended the stream, and all of it is stored
	silent   bool      // nothing has come yet
	begun    time.Time // when the time for the first octet or for a message began
	since    int       // octets since then
	until    time.Time // when to stop reading at the end, or zero
	gathered bool      // the sink has messages that are not safe yet
	due      time.Time // until when more may be gathered, or zero
}

// recordBytes is the most that one read of TLS returns (RFC 8446 section 5.1).
const recordBytes = 16 << 10

func (s *stream) run(ctx, storing context.Context) error {
	o := &s.l.o
	s.silent = true
	defer s.frames.close()
	for {
		if ctx.Err() != nil && s.until.IsZero() {
			s.until = time.Now().Add(o.StopTimeout / 2) // there may be a sender that never rests
		}
		if s.gathered && s.frames.in.Full() {
			if err := s.store(storing); err != nil { // the wait for memory may be long
				return err
			}
		}
		space, err := s.space(storing)
		if err != nil {
			return err
		}
		now := time.Now()
		deadline := s.deadline(now)
		lingers := s.frames.in.Spare() && now.Add(budget.Linger).Before(deadline)
		if lingers {
			deadline = now.Add(budget.Linger)
		}
		if err := s.conn.SetReadDeadline(deadline); err != nil {
			return s.store(storing) // closed by the other side
		}
		n, err := s.conn.Read(space)
		s.frames.wrote(n)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case late && !s.due.IsZero():
			if failure := s.store(storing); failure != nil {
				return failure
			}
			continue
		case late && lingers:
			continue
		case late && s.until.IsZero():
			s.l.counts.timedOut.Add(1)
		}
		now = time.Now()
		if failure := s.gather(storing, n, now, err != nil); failure != nil {
			return failure
		}
		// A read that brings much has left more in the kernel.
		if err == nil && n >= min(len(space), recordBytes)/2 && o.Gather > 0 {
			if s.gathered && s.due.IsZero() {
				s.due = now.Add(o.Gather)
			}
			continue
		}
		if failure := s.store(storing); failure != nil || err != nil {
			// After the end of ctx the end of the stream may be our own.
			s.stored = failure == nil && errors.Is(err, io.EOF) && ctx.Err() == nil
			return failure
		}
		if o.Gather > 0 {
			wait(ctx, o.Gather)
		}
	}
}

// space returns where to read to, and gives up what a small buffer does not need.
func (s *stream) space(storing context.Context) ([]byte, error) {
	large := s.frames.in.Large()
	space, err := s.frames.space(storing)
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	switch now := s.frames.in.Large(); {
	case now && !large:
		s.begun = time.Time{} // it is we who kept the sender waiting
	case large && !now:
		s.batch = nil
	}
	return space, nil
}

// deadline returns until when to wait for more.
func (s *stream) deadline(now time.Time) time.Time {
	end := s.patience(now)
	if !s.due.IsZero() && s.due.Before(end) {
		return s.due
	}
	return end
}

// patience returns until when something must come.
func (s *stream) patience(now time.Time) time.Time {
	o := &s.l.o
	switch {
	case !s.until.IsZero():
		return s.until
	case s.silent:
		if s.begun.IsZero() {
			s.begun = now
		}
		return s.begun.Add(o.FirstByteTimeout)
	case !s.frames.pending():
		s.begun = time.Time{}
		return now.Add(o.IdleTimeout)
	case s.begun.IsZero(), s.since >= o.SlowBytes && !s.frames.in.Wanted():
		s.begun, s.since = now, 0
	}
	return s.begun.Add(o.SlowTimeout)
}

const (
	// maxBatch bounds the messages that are handed over at once: a read can hold very
	// many short ones.
	maxBatch     = 64
	messageBytes = 256 // of memory for each of them
)

// gather gives what n new octets have completed to the sink, and at the end of the
// stream what is left.
func (s *stream) gather(storing context.Context, n int, now time.Time, ended bool) error {
	if n > 0 && s.silent {
		s.silent, s.begun = false, time.Time{}
	}
	s.since += n
	m := s.envelope
	m.TimeUsec = now.UnixMicro()
	for more := true; more; {
		s.batch = s.batch[:0]
		for more && len(s.batch) < maxBatch {
			if m.Text, more = s.frames.next(); more {
				s.batch = append(s.batch, m)
			}
		}
		if !more && ended {
			if m.Text = s.frames.end(); len(m.Text) > 0 {
				s.batch = append(s.batch, m)
			}
		}
		if len(s.batch) == 0 {
			break
		}
		s.begun, s.gathered = time.Time{}, true
		if err := s.l.o.Sink.Gather(storing, s.batch); err != nil {
			return fmt.Errorf("store messages: %w", err)
		}
		s.l.counts.stored(s.batch)
	}
	s.l.counts.framed(&s.frames.stats)
	return nil
}

// store makes what is gathered safe.
func (s *stream) store(storing context.Context) error {
	if !s.gathered {
		return nil
	}
	s.gathered, s.due = false, time.Time{}
	if err := s.l.o.Sink.Append(storing, nil); err != nil {
		return fmt.Errorf("store messages: %w", err)
	}
	return nil
}
