package output

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errEarlyEOF: a receiver that closes first has not necessarily read everything
// (Graylog rule R16).
var errEarlyEOF = errors.New("receiver closed the connection")

// conn is a connection with the goroutine that reads it.
type conn struct {
	net.Conn // lower, or TLS on it
	lower    *lowerConn
	tls      bool
	since    time.Time     // when it was opened
	probe    bool          // only to see how it ends
	used     atomic.Bool   // something was sent
	over     chan struct{} // closed when it has ended

	mu      sync.Mutex
	ack     Ack    // guarded by mu: what confirms the cut
	current bool   // guarded by mu: it was written to, or is the one to write to
	cut     uint64 // guarded by mu: the cut that the half-close belongs to, 0 before
	quiet   bool   // guarded by mu: closed by us, nothing to report
	broken  error  // guarded by mu: why no more may be written
}

// lowerConn lets TLS take its time to say close_notify: crypto/tls gives it 5
// seconds, less than a receiver may pause. What ends a wait that is too long is
// the goroutine that reads.
type lowerConn struct {
	*net.TCPConn
	closing atomic.Bool
}

func (c *lowerConn) SetWriteDeadline(t time.Time) error {
	if c.closing.Load() {
		return nil
	}
	return c.TCPConn.SetWriteDeadline(t)
}

// makeCurrent says that c will be written to; the error is why it broke before.
func (c *conn) makeCurrent() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = c.broken == nil
	return c.broken
}

// fail ends c because of err, which its reader then reports.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.broken == nil {
		c.broken = err
	}
	c.mu.Unlock()
	c.lower.Close()
}

// beginClose makes c wait for the peer's EOF: from now on it means that the peer
// has read everything (Graylog rule R18). It returns an error if the peer was
// first. endClose must follow.
func (c *conn) beginClose(id uint64, ack Ack, timeout time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	// The reader may not have run yet: ask the kernel what has come in.
	if s, err := c.socket(); err != nil {
		return err
	} else if s.state != stateEstablished {
		return errEarlyEOF
	}
	c.cut, c.ack = id, ack
	if err := c.SetReadDeadline(time.Now().Add(c.firstLook(timeout))); err != nil {
		return err
	}
	if c.tls {
		return nil
	}
	// Under mu: the reader must not judge an EOF in between.
	return c.lower.CloseWrite()
}

// endClose says close_notify, then FIN. It can block while the receiver does not read.
func (c *conn) endClose() {
	c.lower.closing.Store(true)
	if err := c.lower.TCPConn.SetWriteDeadline(time.Time{}); err != nil {
		c.fail(err)
		return
	}
	err := c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	if err == nil {
		err = c.lower.CloseWrite()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ENOTCONN) {
		c.fail(err) // else the peer has closed, and the reader knows how
	}
}

// closeLooks is how often at least the reader looks for progress in the time-out
// after the half-close.
const closeLooks = 6

var (
	// errStuck: the time-out is over.
	errStuck = errors.New("no end of stream and no progress after the half-close")
	// errTaken stands for the end of stream where that is not waited for.
	errTaken = errors.New("taken by the peer's kernel")
)

// firstLook returns when to look how far the peer is. c.mu must be held.
func (c *conn) firstLook(timeout time.Duration) time.Duration {
	if c.ack == AckHalfClose {
		return timeout / closeLooks
	}
	return time.Millisecond
}

// taken reports whether what c.ack asks for has come, without an end of stream.
func (c *conn) taken(s socketInfo) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ack == AckNone || c.ack == AckKernel && s.state == stateFinWait2
}

// readToEnd reads c until it ends, or until its cut is confirmed without that. A
// GELF receiver sends nothing; what matters is when and how the stream ends. After
// the half-close it gives up when nothing was acknowledged for the time-out: a slow
// receiver must not be taken for a dead one, or what is sent again makes it slower
// still.
func (c *conn) readToEnd(timeout time.Duration) error {
	var b [512]byte
	unacked, waited, look := math.MaxInt, time.Duration(0), time.Duration(0)
	for {
		_, err := c.Read(b[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if look == 0 {
				c.mu.Lock()
				look = c.firstLook(timeout)
				c.mu.Unlock()
			}
			s, infoErr := c.socket()
			if waited += look; s.unacked != unacked {
				unacked, waited = s.unacked, look
			}
			switch {
			case infoErr == nil && c.taken(s):
				return errTaken
			case infoErr != nil || waited >= timeout:
				return fmt.Errorf("%w for %v: %w", errStuck, timeout, err)
			}
			look = min(2*look, timeout/closeLooks)
			err = c.SetReadDeadline(time.Now().Add(look))
		}
		if err != nil {
			return err
		}
	}
}

// awaitAck waits, without a half-close, until the peer's kernel has acknowledged all
// that was written, as long as it acknowledges something within the time-out.
func (c *conn) awaitAck(ack Ack, timeout time.Duration) error {
	unacked, waited, look := math.MaxInt, time.Duration(0), time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.over:
			return net.ErrClosed
		case <-timer.C:
		}
		s, err := c.socket()
		switch {
		case err != nil || s.state != stateEstablished:
			return net.ErrClosed
		case ack == AckNone || s.unacked == 0:
			return nil
		case s.unacked != unacked:
			unacked, waited = s.unacked, 0
		case waited >= timeout:
			return fmt.Errorf("nothing acknowledged for %v", timeout)
		}
		waited += look
		timer.Reset(look)
		look = min(2*look, timeout/closeLooks)
	}
}

// ended judges how reading ended: nil means that the cut, which it returns, is
// confirmed.
//
// With TLS an end of stream without close_notify counts if it is not inside a
// record. RFC 8446 section 6.1 demands the alert, but Java's TLS 1.3 does not
// answer ours with one unless jdk.tls.acknowledgeCloseNotify is set, so a strict
// reader might never see a confirmation.
func (c *conn) ended(err error) (cut uint64, current, quiet bool, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.broken != nil:
		err = c.broken
	case errors.Is(err, errTaken):
		err = nil
	case !errors.Is(err, io.EOF):
	case c.cut == 0 || c.crossed():
		err = errEarlyEOF
	default:
		err = nil
	}
	c.broken = cmp.Or(err, net.ErrClosed)
	return c.cut, c.current, c.quiet, err
}

// crossed reports whether the peer's FIN was sent before it had ours (its
// segment would have acknowledged ours), or a reset came behind it. With TLS the
// order is that of the close_notify alerts, which the kernel does not know.
func (c *conn) crossed() bool {
	if c.tls {
		return false
	}
	var s socketInfo
	var pending int
	err := c.control(func(fd int) (err error) {
		if s, err = socket(fd); err == nil {
			// This takes the error away from Read, so it is asked for at the end only.
			pending, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		}
		return err
	})
	return err != nil || pending != 0 || s.state == stateLastAck || s.state == stateClosing
}

// States of a TCP socket (RFC 9293 section 3.3.2), numbered as in linux/tcp_states.h.
const (
	stateEstablished = 1
	stateFinWait2    = 5 // our FIN is acknowledged, and so is all before it
	stateLastAck     = 9
	stateClosing     = 11
)

// socketInfo is what the kernel knows of a connection.
type socketInfo struct {
	state   uint8
	unacked int // bytes sent and not acknowledged, our FIN too
}

func (c *conn) socket() (s socketInfo, err error) {
	err = c.control(func(fd int) (err error) {
		s, err = socket(fd)
		return err
	})
	return s, err
}

func socket(fd int) (s socketInfo, err error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return s, err
	}
	s.state = info.State
	s.unacked, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return s, err
}

func (c *conn) control(f func(fd int) error) error {
	raw, err := c.lower.SyscallConn()
	if err != nil {
		return err
	}
	ctl := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(ctl, err)
}
