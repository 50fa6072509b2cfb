package output

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialTCP opens a connection that finds out when the peer is gone.
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
		return nil, fmt.Errorf("connect to %s: %w", address, err)
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
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return secure, nil
}
