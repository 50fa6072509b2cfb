package gelfin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"sidecar/internal/spool"
)

// Listener is a socket that takes GELF.
type Listener struct {
	o      Options
	packet *net.UDPConn // of udp, else nil
	stream net.Listener // of tcp and http, else nil
	http   bool
	slots  chan struct{} // one value for each open connection: MaxConnections

	mu      sync.Mutex
	conns   map[net.Conn]struct{} // guarded by mu
	closing bool                  // guarded by mu
	failure error                 // guarded by mu: the first error of the Sink
	cancel  context.CancelFunc    // guarded by mu: ends Run; nil before
}

// Listen binds the socket. Nothing is taken before Run.
func Listen(ctx context.Context, o Options) (*Listener, error) {
	o, u, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Listener{o: o, http: u.Scheme == "http", slots: make(chan struct{}, o.MaxConnections), conns: make(map[net.Conn]struct{})}
	var lc net.ListenConfig
	if u.Scheme == "udp" {
		var p net.PacketConn
		if p, err = lc.ListenPacket(ctx, "udp", u.Host); err == nil {
			l.packet = p.(*net.UDPConn)
			err = prepare(l.packet, o.ReceiveBufferBytes)
		}
	} else {
		l.stream, err = lc.Listen(ctx, "tcp", u.Host)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for gelf: %w", err)
	}
	return l, nil
}

// Addr returns the address with the real port.
func (l *Listener) Addr() net.Addr {
	if l.packet != nil {
		return l.packet.LocalAddr()
	}
	return l.stream.Addr()
}

// Close closes the socket of a Listener that is not run.
func (l *Listener) Close() error {
	if l.packet != nil {
		return l.packet.Close()
	}
	return l.stream.Close()
}

// Run takes documents until ctx is done or the Sink fails, and returns the Sink's error
// after everything that it started has ended. What was received by then is stored, for at
// most StopTimeout; then the connections are closed.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.cancel = cancel
	l.mu.Unlock()
	storing, stop := withGrace(ctx, l.o.StopTimeout)
	defer stop()
	closed := make(chan struct{})
	stopClosing := context.AfterFunc(ctx, func() { l.shut(); close(closed) })
	switch {
	case l.packet != nil:
		l.runUDP(storing)
	case l.http:
		l.runHTTP(ctx, storing)
	default:
		l.runTCP(storing)
	}
	if stopClosing() {
		l.shut()
	} else {
		<-closed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// withGrace returns a context that is done a time after ctx is.
func withGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-work.Done():
		}
	})
	return work, func() { stop(); cancel() }
}

// shut ends the reading of all sockets; what is being stored goes on.
func (l *Listener) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	l.Close()
	for c := range l.conns {
		c.SetReadDeadline(time.Unix(1, 0))
	}
}

// fail notes an error of the Sink and ends Run.
func (l *Listener) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil && !errors.Is(err, context.Canceled) {
		l.failure = fmt.Errorf("store gelf: %w", err)
	}
	l.cancel()
}

// store gives documents to the Sink; false if it failed.
func (l *Listener) store(ctx context.Context, msgs []spool.Message) bool {
	if len(msgs) == 0 {
		return true
	}
	err := l.o.Sink.Append(ctx, msgs)
	if err != nil {
		l.fail(err)
	}
	return err == nil
}

// message returns the message of a document. text may point into what is reused after
// the next store.
func (l *Listener) message(text []byte, transport string, peer []byte) spool.Message {
	return spool.Message{Text: text, TimeUsec: l.o.Now().UnixMicro(), Priority: -1,
		Source: []byte("gelf"), Peer: peer, Host: peer, Transport: []byte(transport)}
}

// address returns the IP address of a peer as text.
func address(a net.Addr) []byte {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return nil
	}
	return p.Addr().Unmap().AppendTo(nil)
}

// enter registers a connection; false if there are too many, or Run is ending.
func (l *Listener) enter(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return false
	}
	select {
	case l.slots <- struct{}{}:
		l.conns[c] = struct{}{}
		return true
	default:
		l.o.OnDiscard(ReasonConnections, 1)
		return false
	}
}

func (l *Listener) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	<-l.slots
}

// isBlank reports whether there is no document at all: senders end a connection with
// an empty frame, or a body with an empty line.
func isBlank(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }
