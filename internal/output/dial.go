package output

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a connection (reliability of half-open and stalled peers: a receiver
// that pauses for a garbage collection must not be taken for a dead one).
const (
	userTimeout         = 30 * time.Second // TCP_USER_TIMEOUT: unacknowledged data or a closed window
	writeTimeout        = 60 * time.Second // upper bound for one Send
	defaultDialTimeout  = 10 * time.Second
	defaultCloseTimeout = 30 * time.Second // Graylog rule R18
)

// dialer opens connections to a host, which may have several addresses. It makes
// one attempt at a time.
type dialer struct {
	address string // host:port
	port    string
	hosts   addresses
}

func newDialer(address string, r Resolver) dialer {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host = address // connecting fails then
	}
	return dialer{address: address, port: port, hosts: newAddresses(host, r)}
}

// dial opens a connection that finds out when the peer is gone. It tries the
// addresses of the host in turn, each for its share of the time until the deadline of
// ctx, which must have one.
func (d *dialer) dial(ctx context.Context) (*net.TCPConn, error) {
	all, err := d.hosts.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.address, &net.OpError{Op: "dial", Net: "tcp", Err: err})
	}
	var errs []error
	for i, ip := range all {
		deadline, _ := ctx.Deadline()
		share, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(all)-i))
		c, err := dialTCP(share, net.JoinHostPort(ip.String(), d.port))
		cancel()
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		if ctx.Err() == nil {
			d.hosts.failed(ip)
		}
	}
	return nil, fmt.Errorf("connect to %s: %w", d.address, errors.Join(errs...))
}

// dialTCP opens a connection to an IP address and port.
func dialTCP(ctx context.Context, address string) (*net.TCPConn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		ControlContext: func(_ context.Context, _, _ string, raw syscall.RawConn) error {
			var err error
			ctl := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
			})
			return errors.Join(ctl, err)
		},
	}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// handshake returns TLS on c, to a receiver that errors call address. It closes c if
// that fails.
func handshake(ctx context.Context, c net.Conn, config func() (*tls.Config, error), address string) (net.Conn, error) {
	conf, err := config()
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS for %s: %w", address, err)
	}
	secure := tls.Client(c, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, certificateFault(fmt.Errorf("TLS handshake with %s: %w", address, err))
	}
	return secure, nil
}

// certificateFault makes err a *Held if a certificate is the reason, the receiver's
// or ours, which somebody has to replace. Of an alert (RFC 8446 section 6.2) crypto/tls
// tells the text only.
func certificateFault(err error) error {
	var alert *net.OpError
	if errors.As(err, new(*tls.CertificateVerificationError)) ||
		errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Err.Error(), "certificate") {
		return &Held{Operator: true, Err: err}
	}
	return err
}
