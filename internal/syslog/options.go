package syslog

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"sidecar/internal/budget"
	"sidecar/internal/socket"
	"sidecar/internal/spool"
)

// Sink stores messages. Append returns when they, and all that were gathered before,
// are safe, or with an error when they will not be; then the listener ends. Gather is
// the same without being safe yet: it is for what comes so fast that many reads can
// share one Append. A *spool.Spool is a sink. Both may wait as long as they want:
// streams then wait in their senders, datagrams in the budget. They keep nothing of
// msgs, and are called by many goroutines.
//
// Of a message are set: Text, without framing, not empty and at most
// Options.MaxMessageBytes long; TimeUsec; Source, "syslog"; Peer and Host, the sender's
// IP address, empty for a unix socket; Transport, "udp", "tcp", "tls", "unix" or
// "unixgram"; Priority, -1.
type Sink interface {
	Append(ctx context.Context, msgs []spool.Message) error
	Gather(ctx context.Context, msgs []spool.Message) error
}

// Options say where and how to listen. Of the limits 0 means the default.
type Options struct {
	// Listen is udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, unix:/PATH (a
	// stream), unixgram:/PATH, or systemd:NAME for the sockets of a socket unit with
	// FileDescriptorName=NAME (systemd.socket(5)).
	Listen string
	// Framing is that of streams.
	Framing Framing
	// TLS is needed for tls: certificates and, for mutual TLS, ClientAuth and
	// ClientCAs. With systemd:NAME it makes TLS of the streams.
	TLS *tls.Config
	// Inherited are the sockets that systemd passed, or nil.
	Inherited *socket.Inherited
	// Sink takes the messages.
	Sink Sink
	// Log tells changes of state.
	Log *slog.Logger
	// OnDiscard, if set, is told of discarded messages, at most once in DiscardEvery
	// for each sender, and once more at the end.
	OnDiscard func(Discard)

	// MaxMessageBytes is where a longer message is cut: 64 KiB, at most 1 MiB.
	MaxMessageBytes int
	// MaxConnections bounds the streams that are open at a time, 256, and
	// MaxConnectionsPerAddress those of one IP address, 32. What is above is closed
	// at once.
	MaxConnections, MaxConnectionsPerAddress int
	// HandshakeTimeout bounds a TLS handshake, 10 s.
	HandshakeTimeout time.Duration
	// FirstByteTimeout is how long a new stream may be silent, 30 s; IdleTimeout, how
	// long one that has sent something, 10 min.
	FirstByteTimeout, IdleTimeout time.Duration
	// SlowTimeout is how long a message may take to arrive, 30 s, unless
	// SlowBytes, 3,000, come in each such time.
	SlowTimeout time.Duration
	SlowBytes   int
	// ReceiveBufferBytes is asked of the kernel for each datagram socket, 8 MiB.
	ReceiveBufferBytes int
	// Budget bounds what was received and is not with the sink, of this and of all
	// other inputs that have it; nil means one of its own.
	Budget *budget.Budget
	// KernelDrops, if set, returns how many of the datagrams that the kernel has dropped
	// on an inherited socket were told by earlier processes, see Discard.
	KernelDrops func(socket uint64) uint32
	// DiscardEvery is the distance between calls of OnDiscard, 1 min.
	DiscardEvery time.Duration
	// Gather is how long to wait for more after a read that brought little, and how
	// long reads that bring much may wait to be stored together, 2 ms; less than 0 is
	// not at all.
	Gather time.Duration
	// StopTimeout bounds the storing of what was received, after the end, 5 s.
	StopTimeout time.Duration
	// SocketMode is that of a unix socket, 0666.
	SocketMode fs.FileMode
}

// source is spool.Message.Source of all messages.
const source = "syslog"

// withDefaults returns o with its defaults, or says what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	if o.MaxMessageBytes < 0 || o.MaxMessageBytes > spool.MaxMessageBytes {
		return o, fmt.Errorf("listen %s: message limit %d is not within 1 to %d bytes", o.Listen, o.MaxMessageBytes, spool.MaxMessageBytes)
	}
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 64<<10)
	o.MaxConnections = cmp.Or(o.MaxConnections, 256)
	o.MaxConnectionsPerAddress = cmp.Or(o.MaxConnectionsPerAddress, 32)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, 10*time.Second)
	o.FirstByteTimeout = cmp.Or(o.FirstByteTimeout, 30*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.SlowTimeout = cmp.Or(o.SlowTimeout, 30*time.Second)
	o.SlowBytes = cmp.Or(o.SlowBytes, 3000)
	o.ReceiveBufferBytes = cmp.Or(o.ReceiveBufferBytes, 8<<20)
	o.DiscardEvery = cmp.Or(o.DiscardEvery, time.Minute)
	o.Gather = cmp.Or(o.Gather, 2*time.Millisecond)
	o.StopTimeout = cmp.Or(o.StopTimeout, 5*time.Second)
	o.SocketMode = cmp.Or(o.SocketMode, 0o666)
	if o.Budget == nil {
		o.Budget = budget.New(0)
	}
	return o, nil
}

// CheckListen returns what is wrong with an Options.Listen, without opening it.
func CheckListen(s string) error {
	_, _, err := parseAddress(s)
	return err
}

// parseAddress returns where to listen, and whether with TLS.
func parseAddress(s string) (a socket.Address, withTLS bool, err error) {
	network, name, _ := strings.Cut(s, ":")
	switch network {
	case "udp", "tcp", "unix", "unixgram", "systemd":
	case "tls":
		network, withTLS = "tcp", true
	default:
		return a, false, fmt.Errorf("listen %q: want udp, tcp, tls, unix, unixgram or systemd", s)
	}
	if a, err = socket.NewAddress(network, name); err != nil {
		return a, false, fmt.Errorf("listen %q: %w", s, err)
	}
	return a, withTLS, nil
}
