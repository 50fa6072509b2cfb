package gelfin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/socket"
	"sidecar/internal/spool"
)

// prepare asks the kernel for the count of what it drops, and for a large receive buffer;
// systemd may have made a larger one than this process is allowed to.
func prepare(s *socket.Socket, bufferBytes int) error {
	raw, err := s.Conn().SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
		// The first needs CAP_NET_ADMIN; the second is capped by net.core.rmem_max.
		if failed == nil && s.Made && unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes) != nil {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("set up socket: %w", err)
	}
	return nil
}

// datagram is a payload that waits, compressed or not.
type datagram struct {
	payload []byte
	peer    []byte
}

// backlog holds datagrams between the reader, which never waits, and the Sink.
type backlog struct {
	max int

	mu     sync.Mutex
	ready  sync.Cond
	list   []datagram // guarded by mu
	bytes  int        // guarded by mu
	closed bool       // guarded by mu
}

// datagramOverhead is what a datagram costs besides its bytes.
const datagramOverhead = 96

// add copies a datagram into the backlog; false if it is full.
func (b *backlog) add(payload, peer []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+len(payload)+datagramOverhead > b.max {
		return false
	}
	b.list = append(b.list, datagram{append([]byte(nil), payload...), peer})
	b.bytes += len(payload) + datagramOverhead
	b.ready.Signal()
	return true
}

// take returns all that waits, and none after close. It waits for the first. What it
// returns counts until the next call.
func (b *backlog) take() []datagram {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.list) == 0 && !b.closed {
		b.ready.Wait()
	}
	list := b.list
	b.list, b.bytes = nil, 0
	return list
}

func (b *backlog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.ready.Signal()
}

// runUDP reads datagrams until the end, and stores them beside that.
func (l *Listener) runUDP(storing context.Context, s *socket.Socket) {
	b := &backlog{max: l.o.BacklogBytes}
	b.ready.L = &b.mu
	var wg sync.WaitGroup
	wg.Go(func() { l.storeBacklog(storing, b) })
	l.receive(s, b)
	b.close()
	wg.Wait()
}

// How long to wait at the end for another datagram: the kernel has them at once, a sender
// needs a moment for the rest of its chunks.
const (
	restPause  = time.Millisecond
	chunkPause = 100 * time.Millisecond
)

// receive reads datagrams into the backlog until shut ends it, and then what has come by
// then.
func (l *Listener) receive(s *socket.Socket, b *backlog) {
	r := reassembler{maxBytes: l.o.MaxMessageBytes, maxPending: l.o.ChunkBytes, discard: l.o.OnDiscard}
	conn, buf, control := s.Datagram.(*net.UDPConn), make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	var dropped uint32
	inherited := !s.Made // what was dropped up to the next datagram was counted by another process
	var until time.Time  // when to end at the latest
	for {
		n, oobn, _, from, err := conn.ReadMsgUDPAddrPort(buf, control)
		switch late := errors.Is(err, os.ErrDeadlineExceeded); {
		case late && until.IsZero():
			until = time.Now().Add(l.o.StopTimeout / 2) // there may be a sender that never rests
		case late:
			r.expire(l.o.Now().Add(2 * chunkLifetime)) // what is not whole now never will be
			return
		case err != nil:
			l.o.Log.Warn("receive gelf", "err", err)
			l.fail(err)
			return
		default:
			count := overflow(control[:oobn])
			if lost := count - dropped; lost > 0 && !inherited {
				l.o.OnDiscard(ReasonKernel, uint64(lost)) // modulo 2^32, as the kernel counts
			}
			dropped, inherited = count, false
			l.take(b, &r, from.Addr().Unmap(), buf[:n])
		}
		if !until.IsZero() {
			conn.SetReadDeadline(r.next(until))
		}
	}
}

// next returns until when to wait for another datagram, at the end.
func (r *reassembler) next(until time.Time) time.Time {
	pause := restPause
	if len(r.pending) > 0 {
		pause = chunkPause
	}
	if next := time.Now().Add(pause); next.Before(until) {
		return next
	}
	return until
}

// take puts a datagram, or the message that it completes, into the backlog.
func (l *Listener) take(b *backlog, r *reassembler, sender netip.Addr, payload []byte) {
	if isChunk(payload) {
		payload = r.add(l.o.Now(), sender, payload)
	}
	if len(payload) > 0 && !b.add(payload, sender.AppendTo(nil)) {
		l.o.OnDiscard(ReasonBacklog, 1)
	}
}

// overflow returns how many datagrams the kernel has dropped on the socket so far, which
// every datagram says once there are any (socket(7), SO_RXQ_OVFL).
func overflow(control []byte) uint32 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_RXQ_OVFL && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data)
		}
	}
	return 0
}

// inflateBytes bounds what is decompressed before it is stored.
const inflateBytes = 4 << 20

// storeBacklog decompresses and stores datagrams until the backlog is closed.
func (l *Listener) storeBacklog(storing context.Context, b *backlog) {
	var msgs []spool.Message
	for list := b.take(); len(list) > 0; list = b.take() {
		bytes := 0
		for _, d := range list {
			text, err := inflate(d.payload, l.o.MaxMessageBytes)
			if err != nil {
				l.o.OnDiscard(reasonOf(err), 1)
				continue
			}
			if isBlank(text) {
				continue
			}
			msgs = append(msgs, l.message(text, "udp", d.peer))
			if bytes += len(text); bytes >= inflateBytes {
				if !l.store(storing, msgs) {
					return
				}
				msgs, bytes = msgs[:0], 0
			}
		}
		if !l.store(storing, msgs) {
			return
		}
		msgs = msgs[:0]
	}
}
