package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Address says where to listen.
type Address struct {
	// Network is udp, tcp, unix (a stream), unixgram, or systemd for the sockets of a
	// socket unit.
	Network string
	// Name is HOST:PORT, an absolute path, or the FileDescriptorName= of the unit.
	Name string
}

// NewAddress returns an address whose name is still as in a URL behind the network: of udp
// and tcp //HOST:PORT, of unix and unixgram /PATH or ///PATH, of systemd NAME. The error
// does not repeat it.
func NewAddress(network, name string) (Address, error) {
	switch network {
	case "unix", "unixgram":
		name = strings.TrimPrefix(name, "//")
		if !strings.HasPrefix(name, "/") {
			return Address{}, errors.New("the path is not absolute")
		}
	case "systemd":
		if name == "" {
			return Address{}, errors.New("no name of a socket")
		}
	case "udp", "tcp":
		at, found := strings.CutPrefix(name, "//")
		host, port, err := net.SplitHostPort(at)
		if _, bad := strconv.ParseUint(port, 10, 16); !found || err != nil || bad != nil || strings.ContainsAny(host, "/?#@") {
			return Address{}, errors.New("want HOST:PORT")
		}
		name = at
	default:
		return Address{}, fmt.Errorf("network %q is not known", network)
	}
	return Address{network, name}, nil
}

// storeName is the name in systemd's FD store: the address without ":", which names
// there must not have (sd_pid_notify_with_fds(3), FDNAME).
func (a Address) storeName() string {
	return storePrefix + strings.ReplaceAll(a.Network+"_"+a.Name, ":", "_")
}

// isPath reports whether the socket is one of the file system.
func (a Address) isPath() bool { return a.Network == "unix" || a.Network == "unixgram" }

// Socket is a listening socket or one for datagrams.
type Socket struct {
	// Listener is a *net.TCPListener or *net.UnixListener, or nil.
	Listener net.Listener
	// Datagram is a *net.UDPConn or *net.UnixConn, or nil.
	Datagram net.Conn
	// Made says that this process made it; its options are then this process's to set.
	Made bool

	store  string // its name in the FD store, or "": a socket unit keeps it
	remove string // the path that is to be removed at the end, or ""
}

// Open returns the sockets of an address: those that systemd passed, which are not in in
// any more, or a new one; of a socket unit at least one. A sender can connect from then
// on; the kernel holds what it sends. mode is that of a new unix socket. The caller
// closes them.
func (in *Inherited) Open(a Address, mode fs.FileMode) ([]*Socket, error) {
	if a.Network == "systemd" {
		return in.takeUnit(a)
	}
	s, err := in.takeStored(a)
	if err == nil && s == nil {
		s, err = bind(a, mode)
	}
	if err != nil {
		return nil, err
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		s.store = a.storeName()
	} else if a.isPath() {
		s.remove = a.Name
	}
	return []*Socket{s}, nil
}

// takeUnit takes the sockets of a socket unit.
func (in *Inherited) takeUnit(a Address) ([]*Socket, error) {
	var all []*Socket
	var errs []error
	for _, f := range in.take(a.Name) {
		s, err := adopt(f)
		if err != nil {
			errs = append(errs, err)
		} else {
			all = append(all, s)
		}
	}
	if len(all) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("systemd passed no socket of this name (FileDescriptorName= of the socket unit)"))
	}
	if len(errs) == 0 {
		return all, nil
	}
	for _, s := range all {
		errs = append(errs, s.Close())
	}
	return nil, errors.Join(errs...)
}

// takeStored takes the socket that an earlier process left in the FD store, if there
// is one.
func (in *Inherited) takeStored(a Address) (*Socket, error) {
	stored := in.take(a.storeName())
	// A socket whose path is gone cannot be reached any more.
	usable := len(stored) > 0 && (!a.isPath() || isSocket(a.Name))
	for i, f := range stored {
		if i > 0 || !usable {
			f.Close()
		}
	}
	if !usable {
		return nil, nil
	}
	return adopt(stored[0])
}

func isSocket(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().Type() == os.ModeSocket
}

// bind makes a socket.
func bind(a Address, mode fs.FileMode) (*Socket, error) {
	ctx := context.Background()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // of no use here, and out of reach of Landlock's rules
	switch a.Network {
	case "udp":
		c, err := lc.ListenPacket(ctx, "udp", a.Name)
		if err != nil {
			return nil, err
		}
		return &Socket{Datagram: c.(*net.UDPConn), Made: true}, nil
	case "tcp":
		ln, err := lc.Listen(ctx, "tcp", a.Name)
		if err != nil {
			return nil, err
		}
		return &Socket{Listener: ln, Made: true}, nil
	}
	if err := removeStale(a.Network, a.Name); err != nil {
		return nil, err
	}
	s, err := bindUnix(a)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(a.Name, mode.Perm()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func bindUnix(a Address) (*Socket, error) {
	addr := &net.UnixAddr{Name: a.Name, Net: a.Network}
	if a.Network == "unixgram" {
		c, err := net.ListenUnixgram(a.Network, addr)
		if err != nil {
			return nil, err
		}
		return &Socket{Datagram: c, Made: true}, nil
	}
	ln, err := net.ListenUnix(a.Network, addr)
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	return &Socket{Listener: ln, Made: true}, nil
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
func adopt(f *os.File) (*Socket, error) {
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
		return &Socket{Listener: ln}, nil
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
	}
	d, ok := c.(net.Conn)
	if _, packet := c.(*net.IPConn); !ok || packet {
		return nil, errors.Join(fmt.Errorf("take over %s: it is no socket for messages", f.Name()), c.Close())
	}
	return &Socket{Datagram: d}, nil
}

// Keep gives systemd a socket that is not of a socket unit, to keep for the next
// process in its FD store. Without systemd, or without FileDescriptorStoreMax= in the unit, it does nothing.
func (s *Socket) Keep() error {
	if s.store == "" {
		return nil
	}
	return store(s.store, s.Conn())
}

// Conn returns the socket itself.
func (s *Socket) Conn() syscall.Conn {
	if s.Listener != nil {
		return s.Listener.(syscall.Conn)
	}
	return s.Datagram.(syscall.Conn)
}

// Addr returns the address, with the port that the kernel chose.
func (s *Socket) Addr() net.Addr {
	if s.Listener != nil {
		return s.Listener.Addr()
	}
	return s.Datagram.LocalAddr()
}

// Close closes this process's socket; a copy that systemd has stays open, so senders
// notice nothing until the next process. Closing twice is allowed.
func (s *Socket) Close() error {
	var c io.Closer = s.Datagram
	if s.Listener != nil {
		c = s.Listener
	}
	err := c.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if s.remove != "" {
		err = errors.Join(err, os.Remove(s.remove))
		s.remove = ""
	}
	return err
}
