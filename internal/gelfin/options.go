package gelfin

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"sidecar/internal/budget"
	"sidecar/internal/record"
	"sidecar/internal/socket"
	"sidecar/internal/spool"
)

// source is spool.Message.Source of all messages.
const source = "gelf"

// Sink stores messages. Append returns when they are safe, or with an error when they
// will not be; then the Listener ends. A *spool.Spool is one. It may wait as long as it
// wants: TCP and HTTP senders then wait too, datagrams in the budget. It keeps nothing of
// msgs, and is called by many goroutines.
//
// Of a message are set: Text, a document, not empty and at most MaxMessageBytes long;
// TimeUsec; Source, "gelf"; Peer and Host, the sender's IP address; Transport, "udp", "tcp"
// or "http"; Priority, -1.
type Sink interface {
	Append(ctx context.Context, msgs []spool.Message) error
}

// Options say where and how to listen. Of the limits 0 means the default.
type Options struct {
	// Listen is udp://HOST:PORT, tcp://HOST:PORT or http://HOST:PORT, or systemd:NAME or
	// http+systemd:NAME for the sockets of a socket unit with FileDescriptorName=NAME
	// (systemd.socket(5)): UDP and TCP, or all HTTP. The path of HTTP is /gelf.
	Listen string
	// Inherited are the sockets that systemd passed, or nil.
	Inherited *socket.Inherited
	// Sink takes the messages.
	Sink Sink
	// OnDiscard, if set, is told what was discarded; for ReasonBacklog and ReasonKernel at
	// most once in DiscardEvery for each sender and socket, and once more at the end. It is
	// called by several goroutines.
	OnDiscard func(Discard)
	// KernelDrops, if set, returns how many of the datagrams that the kernel has dropped
	// on an inherited socket were told by earlier processes, see Discard.
	KernelDrops func(socket uint64) uint32
	// Budget bounds what was received and is not with the Sink, of this and of all
	// other inputs that have it; nil means one of its own.
	Budget *budget.Budget
	// Log tells changes of state; nil means slog.Default.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// MaxMessageBytes bounds a document, uncompressed, 1 MiB, which is the most that
	// a spool takes. A longer one is discarded, and the connection goes on.
	MaxMessageBytes int
	// MaxConnections bounds the TCP and HTTP connections that are open at a time, 256.
	// What is above is reset at once.
	MaxConnections int
	// IdleTimeout is how long a connection may be silent, 10 min; SlowTimeout how long
	// an HTTP request may take to arrive, or a document by TCP that is longer than
	// 4 KiB, 30 s.
	IdleTimeout, SlowTimeout time.Duration
	// DiscardEvery is the distance between calls of OnDiscard for datagrams, 1 min.
	DiscardEvery time.Duration
	// ReceiveBufferBytes is asked of the kernel for the UDP socket, 8 MiB.
	ReceiveBufferBytes int
	// StopTimeout bounds the storing of what was received, after the end, 5 s.
	StopTimeout time.Duration
}

// Discard is messages, or connections, that were discarded for one reason.
type Discard struct {
	// Reason is one of the constants.
	Reason string
	// Sender is for ReasonBacklog the IP address; empty if there were too many to tell
	// apart.
	Sender string
	// Messages is their number.
	Messages uint64
	// Socket identifies, for ReasonKernel, the socket, and Drops is the kernel's count of
	// it with these messages, see socket.Drops: what Options.KernelDrops is to return to
	// the next process.
	Socket uint64
	Drops  uint32
}

// Why messages are discarded.
const (
	// ReasonTooLong: longer than MaxMessageBytes, compressed or not.
	ReasonTooLong = "too_long"
	// ReasonCompression: not what its first bytes say, gzip or zlib.
	ReasonCompression = "compression"
	// ReasonChunk: a chunk that breaks GELF 1.1 "Chunking".
	ReasonChunk = "chunk"
	// ReasonIncomplete: chunks were missing after 5 s, or a connection ended within a
	// document.
	ReasonIncomplete = "incomplete"
	// ReasonBacklog: the Sink was slower than the datagrams, chunks included.
	ReasonBacklog = "backlog"
	// ReasonKernel: datagrams came faster than they were read (SO_RXQ_OVFL).
	ReasonKernel = "kernel"
	// ReasonConnections: connections, not messages, above MaxConnections.
	ReasonConnections = "connections"
)

func (o Options) withDefaults() Options {
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, spool.MaxMessageBytes)
	o.MaxConnections = cmp.Or(o.MaxConnections, 256)
	o.ReceiveBufferBytes = cmp.Or(o.ReceiveBufferBytes, 8<<20)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.SlowTimeout = cmp.Or(o.SlowTimeout, 30*time.Second)
	o.StopTimeout = cmp.Or(o.StopTimeout, 5*time.Second)
	o.DiscardEvery = cmp.Or(o.DiscardEvery, time.Minute)
	o.MaxMessageBytes = min(o.MaxMessageBytes, spool.MaxMessageBytes)
	if o.OnDiscard == nil {
		o.OnDiscard = func(Discard) {}
	}
	if o.Budget == nil {
		o.Budget = budget.New(0)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// CheckListen returns what is wrong with an Options.Listen, without opening it.
func CheckListen(s string) error {
	_, _, err := parseAddress(s)
	return err
}

// parseAddress returns where to listen, and whether for HTTP.
func parseAddress(s string) (a socket.Address, http bool, err error) {
	network, name, _ := strings.Cut(s, ":")
	switch network {
	case "udp", "tcp", "systemd":
	case "http":
		network, http = "tcp", true
	case "http+systemd":
		network, http = "systemd", true
	default:
		return a, false, fmt.Errorf("listen %q: want udp, tcp, http, systemd or http+systemd", s)
	}
	if a, err = socket.NewAddress(network, name); err != nil {
		return a, false, fmt.Errorf("listen %q: %w", s, err)
	}
	return a, http, nil
}

// Decode makes of a stored message the entry that package parse reads as a GELF document;
// it is the decoder of the spool's source. The host is the document's, else the peer.
func Decode(_ *spool.Message, e *record.Entry) {
	e.GELF = true
	e.Transport = nil // of the way to us; the application's own is in the document
}
