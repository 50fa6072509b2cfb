// Package gelftest is a GELF input that behaves like Graylog's, byte for byte
// where a sender can tell: NUL frames and their limit, what closes a
// connection, EOF only after everything was handed over, the HTTP answers,
// reassembly of chunks. It fails on demand (stall, reset, refuse, die after n
// messages, break half-close) and serves the tests of the project and the verb
// that receives.
//
// It implements GELF 1.1 as the inputs of Graylog 6.2 to 7.0 do; comments name
// the measured behaviour. It does not index: what would become of a message
// says Message.Verdict. It does not know how the project encodes GELF.
package gelftest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"sidecar/internal/gelf"
)

// Defaults and limits of Graylog's inputs.
const (
	// MaxFrameBytes is the longest TCP frame, without its NUL; one byte more
	// closes the connection (max_message_size).
	MaxFrameBytes = 2 << 20
	// MaxBodyBytes is the longest HTTP body after Content-Encoding, and the
	// longest line of a bulk body (max_chunk_size).
	MaxBodyBytes = 64 << 10
	// MaxDecompressedBytes is where a compressed GELF message is cut without a
	// word (decompress_size_limit).
	MaxDecompressedBytes = 8 << 20
	// IdleTimeout closes an HTTP connection that sends nothing (idle_writer_timeout).
	IdleTimeout = 60 * time.Second
)

// Message is one GELF message as it was received.
type Message struct {
	// Transport is "tcp", "http" or "udp", with or without TLS.
	Transport string
	// Remote is the peer's address.
	Remote net.Addr
	// Conn numbers the TCP and HTTP connections of an Input from 1 in the order
	// of acceptance; 0 for UDP.
	Conn uint64
	// Raw is the JSON document, unframed, reassembled and decompressed. It is
	// valid during the call of the Sink only and must not be modified. What
	// cannot be decompressed is here as it came.
	Raw []byte
}

// Verdict returns what Graylog would do with the message.
func (m Message) Verdict() gelf.Verdict { return gelf.Judge(m.Raw) }

// Options say where an Input listens and what it does with messages.
type Options struct {
	// TCP, HTTP and UDP are the addresses ("127.0.0.1:0") to listen on; empty
	// means not to. At least one is needed.
	TCP, HTTP, UDP string
	// TLS makes the TCP and HTTP listeners speak TLS. Nil means plain.
	TLS *tls.Config
	// Sink is handed every message, one call at a time over all connections. The
	// connection reads on only when it returns, so a slow Sink pushes back. It
	// may call the methods of Input that fail on demand. Nil discards.
	Sink func(Message)
	// BeforeClose is called before the Input closes its side of a TCP connection
	// in an orderly way. EOF is the sender's confirmation, so when BeforeClose
	// returns nil, everything that Sink was handed must be safe against the death
	// of the process (written to its file). An error resets the connection
	// instead, ends Run and is returned by it. Calls are serialised with those
	// of Sink. Nil means that there is nothing to do.
	BeforeClose func() error
	// Bulk makes HTTP take one message per line ("\n" or "\r\n"), as inputs of
	// Graylog 4.3 to 7.0 with bulk receiving: a last line without line end waits
	// for the next body of the connection.
	Bulk bool
	// AuthHeader, if set, is the HTTP header that must equal AuthValue.
	AuthHeader, AuthValue string
	// MaxFrameBytes, MaxBodyBytes and IdleTimeout replace the defaults above if
	// not 0.
	MaxFrameBytes int
	MaxBodyBytes  int
	IdleTimeout   time.Duration
	// MaxConns is how many connections may be open; further ones are reset. A
	// connection holds 64 KiB, up to twice a frame while a long one comes. 0
	// means 1024.
	MaxConns int
	// Logf is told in one line why a connection was closed or data discarded.
	// Concurrent calls happen. Nil discards.
	Logf func(format string, args ...any)
}

// Input is a GELF input. Its methods may be called concurrently.
type Input struct {
	o    Options
	tcp  *gate
	http *gate
	udp  *net.UDPConn

	sinkMu sync.Mutex // serialises Sink and BeforeClose; taken before mu

	mu        sync.Mutex
	cond      *sync.Cond // broadcast on every change of what mu guards
	conns     map[*conn]struct{}
	accepted  uint64
	closing   bool
	failure   error // of BeforeClose or a listener
	stop      context.CancelFunc
	handlers  sync.WaitGroup // Add under mu and only if not closing
	stalled   bool
	neverEOF  bool
	answerFIN bool
	killAfter int           // messages left; -1: off
	killed    chan struct{} // closed when killAfter reaches 0
}

// Listen opens the listeners of o. Connections wait in their backlogs until Run
// is called; Close releases them without Run.
func Listen(o Options) (*Input, error) {
	o.MaxFrameBytes = cmp.Or(o.MaxFrameBytes, MaxFrameBytes)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, MaxBodyBytes)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, IdleTimeout)
	o.MaxConns = cmp.Or(o.MaxConns, 1024)
	if o.Sink == nil {
		o.Sink = func(Message) {}
	}
	if o.BeforeClose == nil {
		o.BeforeClose = func() error { return nil }
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	in := &Input{o: o, conns: make(map[*conn]struct{}), killAfter: -1, stop: func() {}}
	in.cond = sync.NewCond(&in.mu)
	if err := in.listen(); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

func (in *Input) listen() (err error) {
	if in.o.TCP == "" && in.o.HTTP == "" && in.o.UDP == "" {
		return errors.New("listen for gelf: no address")
	}
	if in.o.TCP != "" {
		if in.tcp, err = newGate(in, in.o.TCP); err != nil {
			return err
		}
	}
	if in.o.HTTP != "" {
		if in.http, err = newGate(in, in.o.HTTP); err != nil {
			return err
		}
	}
	if in.o.UDP != "" {
		addr, err := net.ResolveUDPAddr("udp", in.o.UDP)
		if err != nil {
			return fmt.Errorf("resolve udp address: %w", err)
		}
		if in.udp, err = net.ListenUDP("udp", addr); err != nil {
			return fmt.Errorf("listen for gelf: %w", err)
		}
		// The kernel may cap it; then datagrams are lost earlier, as everywhere.
		_ = in.udp.SetReadBuffer(256 << 10)
	}
	return nil
}

// Addr returns the address of the listener for transport "tcp", "http" or
// "udp", with the real port; empty if there is none.
func (in *Input) Addr(transport string) string {
	switch {
	case transport == "tcp" && in.tcp != nil:
		return in.tcp.addr
	case transport == "http" && in.http != nil:
		return in.http.addr
	case transport == "udp" && in.udp != nil:
		return in.udp.LocalAddr().String()
	}
	return ""
}

// Run receives until ctx is cancelled, Close is called or something fails that
// stops the Input. It returns after all that it started has ended and all
// sockets are closed: nil after ctx or Close, else the failure. It can be
// called once.
//
// Connections that are open at the end are reset, not closed: an orderly end
// could reach a sender after its half-close and confirm what was never read.
func (in *Input) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in.mu.Lock()
	in.stop = cancel
	if in.closing {
		cancel()
	}
	in.mu.Unlock()

	var wg sync.WaitGroup
	if in.tcp != nil {
		wg.Go(in.acceptTCP)
	}
	if in.http != nil {
		server := in.httpServer()
		var listener net.Listener = in.http
		if in.o.TLS != nil {
			listener = tlsGate{in.http, in.o.TLS}
		}
		wg.Go(func() {
			if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
				in.fail(err)
			}
		})
		defer server.Close()
	}
	if in.udp != nil {
		wg.Go(in.readUDP)
	}
	<-ctx.Done()
	in.Close()
	wg.Wait()
	in.handlers.Wait()
	return in.failure // no other goroutine is left
}

// Close resets all connections, closes the listeners and makes Run return. It
// does not wait for Run and is idempotent.
func (in *Input) Close() {
	in.mu.Lock()
	in.closing = true
	in.resetLocked()
	stop := in.stop
	in.mu.Unlock()
	for _, g := range []*gate{in.tcp, in.http} {
		if g != nil {
			g.Close()
		}
	}
	if in.udp != nil {
		in.udp.Close()
	}
	stop()
}

// fail stops the Input because of err.
func (in *Input) fail(err error) {
	in.mu.Lock()
	if in.failure == nil {
		in.failure = err
	}
	stop := in.stop
	in.mu.Unlock()
	stop()
}

// deliver hands payload to the Sink, decompressed if it is GELF-compressed. It
// waits while the Input is stalled. It returns false if c is not to be read any
// more; c is nil for UDP.
func (in *Input) deliver(c *conn, m Message, payload []byte) bool {
	raw, err := decompress(payload)
	if err != nil {
		in.o.Logf("%s: %v", m.Remote, err)
		raw = payload
	}
	m.Raw = raw
	in.sinkMu.Lock()
	defer in.sinkMu.Unlock()
	if pass, swallow := in.pass(c); !pass || swallow {
		return pass
	}
	in.o.Sink(m)
	return in.count(c)
}

// pass waits while the Input is stalled and reports whether messages of c still
// count, and whether a proxy that answers half-close swallows them.
func (in *Input) pass(c *conn) (pass, swallow bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.stalled && !in.closing && (c == nil || !c.dead) {
		in.cond.Wait()
	}
	return !in.closing && (c == nil || !c.dead && !c.frozen), in.answerFIN && c != nil
}

// count counts a message that was handed over, and kills the connections if it
// was the last one that KillAfter allows.
func (in *Input) count(c *conn) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.killAfter > 0 {
		in.killAfter--
		in.killIfDueLocked()
	}
	return c == nil || !c.dead && !c.frozen
}

// beforeClose makes what was handed over safe. It returns false, and stops the
// Input, if that failed.
func (in *Input) beforeClose() bool {
	in.sinkMu.Lock()
	err := in.o.BeforeClose()
	in.sinkMu.Unlock()
	if err != nil {
		in.fail(err)
	}
	return err == nil
}
