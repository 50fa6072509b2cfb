package gelfin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"sidecar/internal/budget"
	"sidecar/internal/grace"
	"sidecar/internal/socket"
	"sidecar/internal/spool"
)

// Listener takes GELF in on the sockets of one Options.Listen.
type Listener struct {
	o       Options
	sockets []*socket.Socket
	// backlogs are those of the sockets, nil for streams.
	backlogs []*budget.Backlog
	http     bool
	slots    chan struct{} // one value for each open connection: MaxConnections

	counting  sync.Mutex
	discarded map[string]uint64 // guarded by counting: by reason, but for ReasonBacklog

	mu      sync.Mutex
	conns   map[net.Conn]struct{} // guarded by mu
	closing bool                  // guarded by mu
	until   time.Time             // guarded by mu: when to end reading, since closing: there may be a sender that never rests
	failure error                 // guarded by mu: the first error of the Sink
	cancel  context.CancelFunc    // guarded by mu: ends Run; nil before
}

// Listen opens the sockets, or takes over inherited ones. The kernel holds what senders
// send until Run.
func Listen(o Options) (*Listener, error) {
	a, http, err := parseAddress(o.Listen)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	l := &Listener{o: o, http: http, slots: make(chan struct{}, o.MaxConnections), conns: make(map[net.Conn]struct{}), discarded: make(map[string]uint64)}
	if l.sockets, err = o.Inherited.Open(a, 0); err != nil {
		return nil, fmt.Errorf("listen %s: %w", o.Listen, err)
	}
	l.backlogs = make([]*budget.Backlog, len(l.sockets))
	for i, s := range l.sockets {
		if err = l.prepare(s); err != nil {
			return nil, errors.Join(fmt.Errorf("listen %s: %w", o.Listen, err), l.Close())
		}
		if s.Datagram != nil {
			l.backlogs[i] = o.Budget.Backlog(source)
		}
	}
	return l, nil
}

// prepare refuses a socket, of a socket unit, that GELF has no transport for, and sets up
// the others.
func (l *Listener) prepare(s *socket.Socket) error {
	if a := s.Addr(); a.Network() != "tcp" && (a.Network() != "udp" || l.http) {
		return fmt.Errorf("take %v: a socket of %s is of no use here", a, a.Network())
	}
	if s.Datagram == nil {
		return nil
	}
	return prepare(s, l.o.ReceiveBufferBytes)
}

// Addrs returns the addresses of the sockets, with the ports that the kernel chose.
func (l *Listener) Addrs() []net.Addr {
	var all []net.Addr
	for _, s := range l.sockets {
		all = append(all, s.Addr())
	}
	return all
}

// Close closes the sockets of a Listener that is not run.
func (l *Listener) Close() error {
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Run takes documents until ctx is done or the Sink fails, and returns the Sink's error
// after everything that it started has ended. What was received by then is stored, for at
// most StopTimeout; then the connections are closed. Copies of the sockets that systemd has
// stay open, so senders connect and send as ever, and the next process has it.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.cancel = cancel
	l.mu.Unlock()
	storing, stop := grace.Context(ctx, l.o.StopTimeout)
	defer stop()
	closed := make(chan struct{})
	stopClosing := context.AfterFunc(ctx, func() { l.shut(); close(closed) })
	var all sync.WaitGroup
	for i, s := range l.sockets {
		if err := s.Keep(); err != nil {
			l.o.Log.Warn("cannot leave a socket with systemd: a restart refuses its senders for a moment", "source", l.o.Listen, "err", err)
		}
		all.Go(func() {
			switch {
			case s.Datagram != nil:
				l.runUDP(storing, s, l.backlogs[i])
			case l.http:
				l.runHTTP(ctx, storing, s.Listener)
			default:
				l.runTCP(storing, s.Listener)
			}
		})
	}
	all.Wait()
	if stopClosing() {
		l.shut()
	} else {
		<-closed
	}
	err := l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.failure, err)
}

// shut ends the taking of connections. What the kernel holds on those that are open, and for
// a socket of datagrams, is still read; requests that have begun go on.
func (l *Listener) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
	l.until = time.Now().Add(l.o.StopTimeout / 2)
	for _, s := range l.sockets {
		if s.Datagram != nil {
			s.Datagram.SetReadDeadline(time.Unix(1, 0))
		} else {
			s.Listener.Close()
		}
	}
	if l.http {
		return
	}
	for c := range l.conns {
		l.end(c)
	}
}

// end has a connection of TCP read to where its sender is, and no further; l.mu is held.
func (l *Listener) end(c net.Conn) {
	c.(*net.TCPConn).CloseRead()
	c.SetReadDeadline(l.until)
}

// ending reports whether shut was called.
func (l *Listener) ending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// fail notes an error of the Sink and ends Run. That somebody does not wait any longer is
// none: an HTTP client that gave up, or Run itself.
func (l *Listener) fail(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = fmt.Errorf("store gelf: %w", err)
	}
	l.cancel()
}

// discard counts and tells of messages whose sender does not matter.
func (l *Listener) discard(reason string, messages uint64) {
	l.count(reason, messages)
	l.o.OnDiscard(Discard{Reason: reason, Messages: messages})
}

func (l *Listener) count(reason string, messages uint64) {
	if messages == 0 {
		return
	}
	l.counting.Lock()
	defer l.counting.Unlock()
	l.discarded[reason] += messages
}

// Discarded returns how many messages, or connections, were discarded so far, by reason. It
// may be called concurrently with everything; the map is the caller's.
func (l *Listener) Discarded() map[string]uint64 {
	l.counting.Lock()
	all := maps.Clone(l.discarded)
	l.counting.Unlock()
	for _, b := range l.backlogs {
		if b != nil {
			all[ReasonBacklog] += b.Discarded().Messages
		}
	}
	return all
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
		Source: []byte(source), Peer: peer, Host: peer, Transport: []byte(transport)}
}

// address returns the IP address of a peer as text.
func address(a net.Addr) []byte {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return nil
	}
	return p.Addr().Unmap().AppendTo(nil)
}

// enter registers a connection; false if there are too many. While Run is ending it takes of
// TCP what has come, and no requests of HTTP any more.
func (l *Listener) enter(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing && l.http {
		return false
	}
	select {
	case l.slots <- struct{}{}:
		l.conns[c] = struct{}{}
		if l.closing {
			l.end(c)
		}
		return true
	default:
		l.discard(ReasonConnections, 1)
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
