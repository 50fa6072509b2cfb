package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener takes messages in on the sockets of one Options.Listen.
type Listener struct {
	o       Options
	sockets []*socket
	counts  counts
}

// socket is a listening socket or one for datagrams.
type socket struct {
	listener net.Listener // of a stream, or nil
	datagram net.Conn     // *net.UDPConn or *net.UnixConn, or nil
	tls      *tls.Config
	made     bool   // by this process
	store    string // its name in the FD store, or "": a socket unit keeps it
	remove   string // the path that is to be removed at the end, or ""
}

// Listen opens the sockets, or takes over inherited ones, and starts nothing. A
// sender can connect from then on; the kernel holds what it sends until Run. What
// cannot be opened is an error that says which address it is.
func Listen(o Options) (*Listener, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	a, err := parseAddress(o.Listen)
	if err != nil {
		return nil, err
	}
	if a.tls && o.TLS == nil {
		return nil, fmt.Errorf("listen %s: no certificate", o.Listen)
	}
	l := &Listener{o: o}
	if a.network == "systemd" {
		err = l.takeUnit(a)
	} else {
		err = l.open(a)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen %s: %w", o.Listen, err), l.Close())
	}
	return l, nil
}

// takeUnit takes the sockets of a socket unit.
func (l *Listener) takeUnit(a address) error {
	files := l.o.Inherited.take(a.name)
	if len(files) == 0 {
		return errors.New("systemd passed no socket of this name (FileDescriptorName= of the socket unit)")
	}
	for _, f := range files {
		s, err := adopt(f)
		if err != nil {
			return err
		}
		if s.listener != nil {
			s.tls = l.o.TLS
		}
		l.sockets = append(l.sockets, s)
	}
	return nil
}

// open takes a socket that an earlier process left in the FD store, or makes one.
func (l *Listener) open(a address) error {
	if stored := l.o.Inherited.take(a.storeName()); len(stored) > 0 {
		for _, f := range stored[1:] {
			f.Close()
		}
		// A socket whose path is gone cannot be reached any more.
		if a.network != "unix" && a.network != "unixgram" || isSocket(a.name) {
			s, err := adopt(stored[0])
			if err != nil {
				return err
			}
			return l.add(s, a)
		}
		stored[0].Close()
	}
	s, err := bind(a, l.o)
	if err != nil {
		return err
	}
	s.made = true
	return l.add(s, a)
}

func (l *Listener) add(s *socket, a address) error {
	l.sockets = append(l.sockets, s)
	if a.tls {
		s.tls = l.o.TLS
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		s.store = a.storeName()
	} else if a.network == "unix" || a.network == "unixgram" {
		s.remove = a.name
	}
	return nil
}

func isSocket(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().Type() == os.ModeSocket
}

// bind makes a socket.
func bind(a address, o Options) (*socket, error) {
	ctx := context.Background()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // of no use here, and out of reach of Landlock's rules
	switch a.network {
	case "udp":
		c, err := lc.ListenPacket(ctx, "udp", a.name)
		if err != nil {
			return nil, err
		}
		return &socket{datagram: c.(*net.UDPConn)}, nil
	case "tcp":
		ln, err := lc.Listen(ctx, "tcp", a.name)
		if err != nil {
			return nil, err
		}
		return &socket{listener: ln}, nil
	}
	if err := removeStale(a.network, a.name); err != nil {
		return nil, err
	}
	s, err := bindUnix(a)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(a.name, o.SocketMode.Perm()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func bindUnix(a address) (*socket, error) {
	addr := &net.UnixAddr{Name: a.name, Net: a.network}
	if a.network == "unixgram" {
		c, err := net.ListenUnixgram(a.network, addr)
		if err != nil {
			return nil, err
		}
		return &socket{datagram: c}, nil
	}
	ln, err := net.ListenUnix(a.network, addr)
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	return &socket{listener: ln}, nil
}

// removeStale removes a socket that nobody listens on, and nothing else.
func removeStale(network, path string) error {
	if !isSocket(path) {
		return nil // then there is nothing, or bind says what is wrong
	}
	c, err := net.Dial(network, path)
	if err == nil {
		c.Close()
		return fmt.Errorf("%w (another program listens there)", syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("replace the socket: %w", err)
	}
	return os.Remove(path)
}

// adopt makes a socket of a descriptor, which it closes.
func adopt(f *os.File) (*socket, error) {
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
	}
	kind := 0
	control := raw.Control(func(fd uintptr) { kind, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE) })
	if err = errors.Join(control, err); err != nil {
		return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
	}
	if kind == unix.SOCK_STREAM {
		ln, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
		}
		return &socket{listener: ln}, nil
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
	}
	d, ok := c.(net.Conn)
	if _, packet := c.(*net.IPConn); !ok || packet {
		return nil, errors.Join(fmt.Errorf("take over %s: it is no socket for syslog", f.Name()), c.Close())
	}
	return &socket{datagram: d}, nil
}

// Addrs returns the addresses of the sockets, with the ports that the kernel chose.
func (l *Listener) Addrs() []net.Addr {
	var all []net.Addr
	for _, s := range l.sockets {
		if s.listener != nil {
			all = append(all, s.listener.Addr())
		} else {
			all = append(all, s.datagram.LocalAddr())
		}
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
	storing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var work, watch sync.WaitGroup
	watch.Go(func() { stopAfter(ctx, storing, l.o.StopTimeout, stop) })

	failures := make([]error, len(l.sockets))
	for i, s := range l.sockets {
		l.keep(s)
		work.Go(func() {
			run := l.receive
			if s.listener != nil {
				run = l.accept
			}
			if failures[i] = run(ctx, storing, s); failures[i] != nil {
				cancel()
			}
		})
	}
	work.Wait()
	stop()
	watch.Wait()
	return errors.Join(append(failures, l.Close())...)
}

// stopAfter calls stop some time after ctx has ended, unless storing ends before.
func stopAfter(ctx, storing context.Context, timeout time.Duration, stop func()) {
	select {
	case <-ctx.Done():
	case <-storing.Done():
		return
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-timer.C:
		stop()
	case <-storing.Done():
	}
}

// keep gives a socket that this process has made to systemd's FD store.
func (l *Listener) keep(s *socket) {
	if s.store == "" {
		return
	}
	if err := store(s.store, s.conn()); err != nil {
		l.o.Log.Warn("cannot leave a socket with systemd: a restart refuses its senders for a moment", "source", l.o.Listen, "err", err)
	}
}

// conn returns the socket itself.
func (s *socket) conn() syscall.Conn {
	if s.listener != nil {
		return s.listener.(syscall.Conn)
	}
	return s.datagram.(syscall.Conn)
}

// Close closes the sockets if Run was never called. Closing twice is allowed.
func (l *Listener) Close() error {
	var errs []error
	for _, s := range l.sockets {
		errs = append(errs, s.close())
	}
	l.sockets = nil
	return errors.Join(errs...)
}

func (s *socket) close() error {
	var c io.Closer = s.datagram
	if s.listener != nil {
		c = s.listener
	}
	err := c.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if s.remove != "" {
		err = errors.Join(err, os.Remove(s.remove))
	}
	return err
}
