package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// errRemote is why a connection to another machine is not made.
var errRemote = errors.New("the address is not of this machine's loopback interface: set probe.allow_remote = true if that is meant")

// endpoint is where a check connects to.
type endpoint struct {
	network, address string
	remote           bool // addresses outside of the loopback interface are allowed
}

// endpoint returns the endpoint of a URL: host and port, the port def if there is
// none, or, without a host, the path of a unix socket.
func (t *target) endpoint(def string) (endpoint, error) {
	if t.url == nil {
		return endpoint{}, fmt.Errorf("want %s://host:port", t.kind)
	}
	if socket := t.opt.text("socket", ""); socket != "" {
		return endpoint{network: "unix", address: socket}, nil
	}
	if t.url.Host == "" && len(t.url.Path) > 1 {
		return endpoint{network: "unix", address: t.url.Path}, nil
	}
	return t.hostPort(def)
}

// hostPort returns the endpoint of a URL's host and port.
func (t *target) hostPort(def string) (endpoint, error) {
	host, port := t.url.Hostname(), t.url.Port()
	switch {
	case host == "":
		return endpoint{}, errors.New("the host is missing")
	case port == "" && def == "":
		return endpoint{}, errors.New("the port is missing")
	case port == "":
		port = def
	}
	if a, err := netip.ParseAddr(host); err == nil && !a.IsLoopback() && !t.env.AllowRemote {
		return endpoint{}, errRemote // a name is looked up when it is dialled
	}
	return endpoint{network: "tcp", address: net.JoinHostPort(host, port), remote: t.env.AllowRemote}, nil
}

// dial connects. The connection fails when ctx is done, whatever it is doing then.
func (e endpoint) dial(ctx context.Context) (*wire, error) {
	d := net.Dialer{KeepAlive: -1}
	if e.network != "unix" && e.network != "unixgram" && !e.remote {
		d.Control = loopbackOnly
	}
	conn, err := d.DialContext(ctx, e.network, e.address)
	if err != nil {
		return nil, err
	}
	return &wire{conn, context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })}, nil
}

// loopbackOnly is a net.Dialer's Control: it sees the address that a name led to.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || !a.Addr().IsLoopback() {
		return errRemote
	}
	return nil
}

// wire is a connection that ends with its context.
type wire struct {
	net.Conn
	stop func() bool
}

// Close closes the connection. It may be called more than once.
func (w *wire) Close() error {
	w.stop()
	return w.Conn.Close()
}
