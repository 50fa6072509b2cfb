package output

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// TCPOptions configure a TCP output.
type TCPOptions struct {
	// Address is host:port.
	Address string
	// TLS, if not nil, is asked for the configuration of each connection, with
	// ServerName set, so that certificates can change.
	TLS func() (*tls.Config, error)
	// DialTimeout bounds connecting with its handshake; 0 means 10 seconds.
	DialTimeout time.Duration
	// Ack is what confirms a cut; "" means AckHalfClose.
	Ack Ack
	// Resolver says how the address of the host is found.
	Resolver Resolver
	// Log gets changes of what confirms; nil discards them.
	Log *slog.Logger
	// CloseTimeout is how long the receiver may take nothing after our half-close
	// before the connection counts as failed; 0 means 30 seconds.
	CloseTimeout time.Duration
}

// TCP sends NUL-terminated GELF frames over one connection at a time and
// confirms by half-close (Graylog rules R16 to R18, R20). Its methods are for
// one goroutine.
type TCP struct {
	o      TCPOptions
	dialer dialer // of the attempt under way
	proof  proof
	events chan Event
	wg     sync.WaitGroup

	// current is written to, next is open and waits to take over.
	current, next *conn
	dial          context.CancelFunc // of the attempt under way, nil if none
	dialed        chan dialResult

	mu       sync.Mutex
	open     map[*conn]bool // guarded by mu: every connection that is not closed
	aborting bool           // guarded by mu: no connection may be added
}

type dialResult struct {
	conn *conn
	err  error
}

// NewTCP returns an output that is not connected.
func NewTCP(o TCPOptions) *TCP {
	o.DialTimeout = cmp.Or(o.DialTimeout, defaultDialTimeout)
	o.CloseTimeout = cmp.Or(o.CloseTimeout, defaultCloseTimeout)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &TCP{
		o: o, dialer: newDialer(o.Address, o.Resolver), proof: newProof(o.Ack),
		// An event per connection and attempt can be pending, and there are at most
		// three connections: the one that is confirmed, the current and the next. More
		// only wait for the line.
		events: make(chan Event, 8), dialed: make(chan dialResult, 1), open: map[*conn]bool{},
	}
}

// Events delivers what happens to connections. It must be received from.
func (t *TCP) Events() <-chan Event { return t.events }

// Connect opens the first connection. If an earlier one was closed as soon as it
// was open, it waits for a moment whether this one stays.
func (t *TCP) Connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.o.DialTimeout)
	defer cancel()
	c, err := t.connect(ctx, false)
	if err != nil {
		return err
	}
	if t.proof.shortLived() {
		stays := time.NewTimer(staysAfter)
		defer stays.Stop()
		select {
		case <-c.over:
		case <-stays.C:
		case <-ctx.Done():
		}
	}
	if err := c.makeCurrent(); err != nil {
		// With TLS 1.3 a receiver refuses our certificate after the handshake.
		return certificateFault(fmt.Errorf("connect to %s: %w", t.o.Address, err))
	}
	t.current = c
	if t.proof.probeDue() {
		// It may fail: then time-outs tell.
		if p, err := t.connect(ctx, true); err == nil {
			_ = t.halfClose(p, probeCut)
		}
	}
	return nil
}

// connect opens a connection and starts to read it. ctx must end.
func (t *TCP) connect(ctx context.Context, probe bool) (*conn, error) {
	tcp, err := t.dialer.dial(ctx)
	if err != nil {
		return nil, err
	}
	lower := &lowerConn{TCPConn: tcp}
	c := &conn{Conn: lower, lower: lower, since: time.Now(), probe: probe, quiet: probe, over: make(chan struct{})}
	if t.o.TLS != nil {
		if c.Conn, err = handshake(ctx, lower, t.o.TLS, t.o.Address); err != nil {
			return nil, err
		}
		c.tls = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.aborting {
		tcp.Close()
		return nil, context.Canceled
	}
	t.open[c] = true
	t.wg.Go(func() { t.watch(c) })
	return c, nil
}

// watch reads c until it ends and reports that.
func (t *TCP) watch(c *conn) {
	cut, current, quiet, err := c.ended(c.readToEnd(t.o.CloseTimeout))
	// Not Close of TLS, which would wait for close_notify to be sent.
	c.lower.Close()
	if !quiet || c.probe {
		t.learn(c, err)
	}
	close(c.over)
	t.mu.Lock()
	delete(t.open, c)
	t.mu.Unlock()
	switch {
	case quiet:
	case err == nil:
		t.events <- Event{Kind: Confirmed, Cut: cut, Ack: c.ack}
	case !current:
		t.events <- Event{Kind: NextFailed, Err: certificateFault(fmt.Errorf("%s: %w", t.o.Address, err))}
	default:
		t.events <- Event{Kind: Failed, Err: certificateFault(fmt.Errorf("%s: %w", t.o.Address, err))}
	}
}

// learn takes how c ended by itself.
func (t *TCP) learn(c *conn, err error) {
	if ack, reason := t.proof.learn(c, err); reason != "" {
		t.o.Log.Warn("a closed connection does not prove here that the receiver has read everything; its kernel's acknowledgement counts from now on, and what was confirmed last is sent again after a failure",
			"target", t.o.Address, "reason", reason, "ack_mode", string(ack))
	}
}

// Send writes frames, which must be whole and end in NUL. It blocks while the
// receiver does not read. After an error nothing since the last confirmed cut is
// proven.
func (t *TCP) Send(ctx context.Context, frames []byte) error {
	c := t.current
	if c == nil {
		return net.ErrClosed
	}
	c.mu.Lock()
	err := c.broken
	c.mu.Unlock()
	if err != nil {
		// The first write after the peer's FIN would succeed and be lost.
		return certificateFault(fmt.Errorf("send to %s: %w", t.o.Address, err))
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return certificateFault(fmt.Errorf("send to %s: %w", t.o.Address, err))
	}
	c.used.Store(true)
	stop := context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(frames); err != nil {
		return fmt.Errorf("send to %s: %w", t.o.Address, err)
	}
	return nil
}

// Cut asks for a confirmation of everything sent so far, which comes as an Event
// with that id (not 0). It returns false, and begins to open the next
// connection, if that is not open yet: NextReady or NextFailed follows, then
// call it again. With last it needs no next connection, and Send is over.
func (t *TCP) Cut(ctx context.Context, id uint64, last bool) (bool, error) {
	c := t.current
	if c == nil {
		return false, net.ErrClosed
	}
	if last {
		t.current = nil
		return true, t.halfClose(c, id)
	}
	if ack := t.proof.ack(); ack != AckHalfClose {
		// The connection stays: a receiver that is not waited for could read the next
		// one before the end of this one.
		t.wg.Go(func() { t.acknowledge(c, id, ack) })
		return true, nil
	}
	t.takeNext()
	if t.next == nil || t.next.makeCurrent() != nil {
		t.next = nil
		t.openNext(ctx)
		return false, nil
	}
	t.current, t.next = t.next, nil
	return true, t.halfClose(c, id)
}

// halfClose ends our direction of the stream. It does not block: the alert that
// TLS sends first may have to wait until the receiver reads.
func (t *TCP) halfClose(c *conn, id uint64) error {
	if err := c.beginClose(id, t.proof.ack(), t.o.CloseTimeout); err != nil {
		return fmt.Errorf("half-close to %s: %w", t.o.Address, err)
	}
	if c.tls {
		t.wg.Go(c.endClose)
	}
	return nil
}

// acknowledge reports what was sent on c as confirmed when the peer's kernel has it.
func (t *TCP) acknowledge(c *conn, id uint64, ack Ack) {
	err := c.awaitAck(ack, t.o.CloseTimeout)
	switch {
	case err == nil:
		t.events <- Event{Kind: Confirmed, Cut: id, Ack: ack}
	case !errors.Is(err, net.ErrClosed): // its reader tells of that
		c.fail(err)
	}
}

func (t *TCP) openNext(ctx context.Context) {
	if t.dial != nil {
		return
	}
	ctx, t.dial = context.WithCancel(ctx)
	t.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, t.o.DialTimeout)
		defer cancel()
		c, err := t.connect(ctx, false)
		t.dialed <- dialResult{c, err}
		if err != nil {
			t.events <- Event{Kind: NextFailed, Err: err}
		} else {
			t.events <- Event{Kind: NextReady}
		}
	})
}

// takeNext fetches the result of openNext if there is one.
func (t *TCP) takeNext() {
	select {
	case r := <-t.dialed:
		t.dial()
		t.dial = nil
		t.next = r.conn
	default:
	}
}

// Abort closes every connection at once. What was not confirmed is unproven;
// events of the connections are over when it returns. Connect starts again.
func (t *TCP) Abort() {
	if t.dial != nil {
		t.dial()
	}
	t.mu.Lock()
	t.aborting = true
	for c := range t.open {
		c.mu.Lock()
		c.quiet = true
		c.mu.Unlock()
		if c.used.Load() {
			c.lower.SetLinger(0) // no use in delivering what will be sent again
		}
		c.lower.Close()
	}
	t.mu.Unlock()
	done := make(chan struct{})
	go func() { t.wg.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-t.events:
		case <-done:
			ended = true
		}
	}
	t.drain()
	t.current, t.next, t.dial = nil, nil, nil
	t.mu.Lock()
	t.aborting = false
	t.mu.Unlock()
}

// drain empties the channels after all goroutines, and so all connections, have ended.
func (t *TCP) drain() {
	for {
		select {
		case <-t.events:
		case <-t.dialed:
		default:
			return
		}
	}
}
