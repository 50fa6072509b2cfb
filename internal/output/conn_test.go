package output

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns a connection that nobody reads yet, and its peer.
func pair(t *testing.T) (*conn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); peer.Close() })
	lower := &lowerConn{TCPConn: nc.(*net.TCPConn)}
	return &conn{Conn: lower, lower: lower}, peer.(*net.TCPConn)
}

// awaitFIN waits until the kernel has received the peer's FIN, without reading it.
func awaitFIN(t *testing.T, c *conn) {
	t.Helper()
	raw, err := c.lower.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if ctl := raw.Control(func(fd uintptr) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, 20_000)
	}); ctl != nil || err != nil || n != 1 {
		t.Fatal(ctl, err, n)
	}
}

// The reader's goroutine may run long after the FIN came: the half-close must
// not take it for an answer to itself.
func TestHalfCloseAfterAnUnreadFIN(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn) error{"close": (*net.TCPConn).Close, "half-close": (*net.TCPConn).CloseWrite} {
		t.Run(name, func(t *testing.T) {
			c, peer := pair(t)
			if err := end(peer); err != nil {
				t.Fatal(err)
			}
			awaitFIN(t, c)
			if _, err := c.Write([]byte("lost\x00")); err != nil {
				t.Logf("write: %v", err)
			}
			if err := c.beginClose(1, AckHalfClose, time.Second); !errors.Is(err, errEarlyEOF) {
				t.Errorf("got %v", err)
			}
			if cut, _, _, err := c.ended(io.EOF); err == nil {
				t.Errorf("cut %d is confirmed", cut)
			}
		})
	}
}

// A FIN that was sent before ours came in leaves other traces than an answer.
func TestFINThatDoesNotAnswerOurs(t *testing.T) {
	c, peer := pair(t)
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	awaitFIN(t, c)
	// As if the FIN had come between the look at the state and the half-close.
	c.cut = 1
	if _, err := c.Write([]byte("never read\x00")); err != nil {
		t.Fatal(err)
	}
	if err := peer.Close(); err != nil { // data is unread: a reset
		t.Fatal(err)
	}
	if cut, _, _, err := c.ended(io.EOF); !errors.Is(err, errEarlyEOF) {
		t.Errorf("cut %d: got %v", cut, err)
	}
}

func TestTLSMayTakeItsTimeToClose(t *testing.T) {
	c, _ := pair(t)
	c.lower.closing.Store(true)
	if err := c.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("write: %v", err)
	}
}

// Looking for progress must not take the reset away from the reader.
func TestLookingDoesNotHideAReset(t *testing.T) {
	c, peer := pair(t)
	if err := c.beginClose(1, AckHalfClose, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := peer.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	awaitFIN(t, c)
	if _, err := c.socket(); err != nil {
		t.Fatal(err)
	}
	if cut, _, _, err := c.ended(c.readToEnd(time.Minute)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("cut %d: got %v", cut, err)
	}
}
