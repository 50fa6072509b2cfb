package gelftest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// gate is a TCP listener that can be closed and opened again on the same port
// while Accept goes on.
type gate struct {
	in   *Input
	addr string // with the real port; immutable

	mu      sync.Mutex
	changed *sync.Cond
	ln      *net.TCPListener // nil while refusing
	closed  bool
}

func newGate(in *Input, addr string) (*gate, error) {
	g := &gate{in: in, addr: addr}
	g.changed = sync.NewCond(&g.mu)
	if err := g.open(); err != nil {
		return nil, err
	}
	g.addr = g.ln.Addr().String()
	return g, nil
}

// open listens, if it does not already.
func (g *gate) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ln != nil || g.closed {
		return nil
	}
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		return fmt.Errorf("listen for gelf: %w", err)
	}
	g.ln = ln.(*net.TCPListener)
	g.changed.Broadcast()
	return nil
}

// refuse closes the listener until open.
func (g *gate) refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ln != nil {
		g.ln.Close()
		g.ln = nil
	}
}

// Accept implements net.Listener. It waits while the gate refuses; after Close
// it returns net.ErrClosed.
func (g *gate) Accept() (net.Conn, error) {
	for {
		g.mu.Lock()
		for g.ln == nil && !g.closed {
			g.changed.Wait()
		}
		ln, closed := g.ln, g.closed
		g.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		tcp, err := ln.AcceptTCP()
		if err == nil {
			if c := g.in.adopt(tcp); c != nil {
				return c, nil
			}
			continue
		}
		if !errors.Is(err, net.ErrClosed) {
			return nil, fmt.Errorf("accept gelf connection: %w", err)
		}
	}
}

// Close implements net.Listener; it is idempotent.
func (g *gate) Close() error {
	g.refuse()
	g.mu.Lock()
	g.closed = true
	g.changed.Broadcast()
	g.mu.Unlock()
	return nil
}

// Addr implements net.Listener.
func (g *gate) Addr() net.Addr {
	addr, _ := net.ResolveTCPAddr("tcp", g.addr) // made from a net.Addr
	return addr
}

// conn is an accepted connection whose reading can be stopped.
type conn struct {
	net.Conn // tcp
	tcp      *net.TCPConn
	in       *Input
	number   uint64
	lines    framer // HTTP bulk: what waits for a line end; owned by the server

	// guarded by in.mu
	dead     bool // reset or closed
	cut      bool // reset
	frozen   bool // our half is closed, the rest is never read
	kicked   bool // read deadline set in the past to end a Read
	deadline time.Time
	half     halfCloser
}

// halfCloser is a *net.TCPConn or a *tls.Conn.
type halfCloser interface{ CloseWrite() error }

// adopt registers an accepted connection, or resets it and returns nil if there
// are too many.
func (in *Input) adopt(tcp *net.TCPConn) *conn {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closing || len(in.conns) >= in.o.MaxConns {
		in.o.Logf("%s: reset, %d connections are open", tcp.RemoteAddr(), len(in.conns))
		reset(tcp)
		return nil
	}
	// What Graylog asks for; the kernel may cap it.
	_ = tcp.SetReadBuffer(1 << 20)
	// When the process is killed, the kernel closes its sockets. With everything
	// read, that would be a FIN, which a sender that half-closed takes for a
	// confirmation of what died with the process. This makes it a RST; Close
	// takes it back.
	_ = tcp.SetLinger(0)
	in.accepted++
	c := &conn{Conn: tcp, tcp: tcp, in: in, number: in.accepted, half: tcp}
	in.conns[c] = struct{}{}
	in.cond.Broadcast()
	return c
}

// reset closes tcp with RST.
func reset(tcp *net.TCPConn) {
	_ = tcp.SetLinger(0) // fails only on a connection that is closed already
	tcp.Close()
}

// message returns the envelope of the messages of c.
func (c *conn) message(transport string) Message {
	return Message{Transport: transport, Remote: c.RemoteAddr(), Conn: c.number}
}

// Read implements net.Conn. It waits while the Input is stalled or c frozen.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if !c.await() {
			return 0, net.ErrClosed
		}
		n, err := c.tcp.Read(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.unkick() {
			continue
		}
		// A Read that had just begun takes what comes after the stall; hold it.
		if n > 0 && !c.await() {
			return 0, net.ErrClosed
		}
		return n, err
	}
}

func (c *conn) await() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	for (c.in.stalled || c.frozen) && !c.dead {
		c.in.cond.Wait()
	}
	return !c.dead
}

// kickLocked ends a Read in progress without data.
func (c *conn) kickLocked() {
	c.kicked = true
	_ = c.tcp.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection
}

// unkick restores the deadline and reports whether c was kicked.
func (c *conn) unkick() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if !c.kicked {
		return false
	}
	c.kicked = false
	return c.tcp.SetReadDeadline(c.deadline) == nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.deadline = t
	if c.kicked {
		return nil
	}
	return c.tcp.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.tcp.SetWriteDeadline(t))
}

// Close implements net.Conn; it is idempotent.
func (c *conn) Close() error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.closeLocked(func() error {
		_ = c.tcp.SetLinger(-1) // fails only on a connection that is closed already
		return c.tcp.Close()
	})
}

// reset closes c with RST.
func (c *conn) reset() {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.resetLocked()
}

func (c *conn) resetLocked() {
	c.cut = c.cut || !c.dead
	_ = c.closeLocked(func() error { reset(c.tcp); return nil })
}

func (c *conn) closeLocked(closeTCP func() error) error {
	if c.dead {
		return nil
	}
	c.dead = true
	delete(c.in.conns, c)
	c.in.cond.Broadcast()
	return closeTCP()
}
