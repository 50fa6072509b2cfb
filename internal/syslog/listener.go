package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"sidecar/internal/budget"
	"sidecar/internal/grace"
	"sidecar/internal/socket"
)

// Listener takes messages in on the sockets of one Options.Listen.
type Listener struct {
	o        Options
	sockets  []*socket.Socket
	backlogs []*budget.Backlog // of the sockets, nil for streams
	tls      *tls.Config       // of the streams, or nil
	counts   counts
}

// Listen opens the sockets, or takes over inherited ones, and starts nothing. A
// sender can connect from then on; the kernel holds what it sends until Run. What
// cannot be opened is an error that says which address it is.
func Listen(o Options) (*Listener, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	a, withTLS, err := parseAddress(o.Listen)
	if err != nil {
		return nil, err
	}
	if withTLS && o.TLS == nil {
		return nil, fmt.Errorf("listen %s: no certificate", o.Listen)
	}
	l := &Listener{o: o}
	if withTLS || a.Network == "systemd" {
		l.tls = o.TLS
	}
	if l.sockets, err = o.Inherited.Open(a, o.SocketMode); err != nil {
		return nil, fmt.Errorf("listen %s: %w", o.Listen, err)
	}
	l.backlogs = make([]*budget.Backlog, len(l.sockets))
	for i, s := range l.sockets {
		if s.Datagram != nil {
			l.backlogs[i] = o.Budget.Backlog(source)
		}
	}
	return l, nil
}

// Addrs returns the addresses of the sockets, with the ports that the kernel chose.
func (l *Listener) Addrs() []net.Addr {
	var all []net.Addr
	for _, s := range l.sockets {
		all = append(all, s.Addr())
	}
	return all
}

// Run takes messages in until ctx is done, and returns when all that it started has
// ended and what was received is with the sink. It closes the sockets; copies of them
// that systemd has stay open, so senders notice nothing until the next process. The
// error is the sink's or that of a socket.
func (l *Listener) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What was received is stored after the end too, but not for ever.
	storing, stop := grace.Context(ctx, l.o.StopTimeout)
	defer stop()
	var work sync.WaitGroup
	failures := make([]error, len(l.sockets))
	for i, s := range l.sockets {
		l.keep(s)
		work.Go(func() {
			if s.Listener != nil {
				failures[i] = l.accept(ctx, storing, s)
			} else {
				failures[i] = l.receive(ctx, storing, s, l.backlogs[i])
			}
			if failures[i] != nil {
				cancel()
			}
		})
	}
	work.Wait()
	return errors.Join(append(failures, l.Close())...)
}

// keep gives a socket that this process has made to systemd's FD store.
func (l *Listener) keep(s *socket.Socket) {
	if err := s.Keep(); err != nil {
		l.o.Log.Warn("cannot leave a socket with systemd: a restart refuses its senders for a moment", "source", l.o.Listen, "err", err)
	}
}

// Close closes the sockets if Run was never called. Closing twice is allowed.
func (l *Listener) Close() error {
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, s.Close())
	}
	l.sockets = nil
	return errors.Join(errs...)
}
