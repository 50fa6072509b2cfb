package gelfin

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"sidecar/internal/spool"
)

// prepare asks the kernel for a large receive buffer and for the count of what it drops.
func prepare(c *net.UDPConn, bufferBytes int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// The first needs CAP_NET_ADMIN; the second is capped by net.core.rmem_max.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes) != nil {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
		}
		if failed == nil {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
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

// runUDP reads datagrams until the socket is closed, and stores them beside that.
func (l *Listener) runUDP(storing context.Context) {
	b := &backlog{max: l.o.BacklogBytes}
	b.ready.L = &b.mu
	var wg sync.WaitGroup
	wg.Go(func() { l.storeBacklog(storing, b) })
	l.receive(b)
	b.close()
	wg.Wait()
}

// receive reads datagrams into the backlog.
func (l *Listener) receive(b *backlog) {
	r := reassembler{maxBytes: l.o.MaxMessageBytes, maxPending: l.o.ChunkBytes, discard: l.o.OnDiscard}
	buf, control := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	var dropped uint32
	for {
		n, oobn, _, from, err := l.packet.ReadMsgUDPAddrPort(buf, control)
		if err != nil {
			l.mu.Lock()
			closing := l.closing
			l.mu.Unlock()
			if closing {
				return
			}
			l.o.Log.Warn("receive gelf", "err", err)
			l.fail(err)
			return
		}
		if count, ok := overflow(control[:oobn]); ok && count != dropped {
			l.o.OnDiscard(ReasonKernel, uint64(count-dropped)) // modulo 2^32, as the kernel counts
			dropped = count
		}
		sender := from.Addr().Unmap()
		payload := buf[:n]
		if isChunk(payload) {
			payload = r.add(l.o.Now(), sender, payload)
		}
		if len(payload) > 0 && !b.add(payload, sender.AppendTo(nil)) {
			l.o.OnDiscard(ReasonBacklog, 1)
		}
	}
}

// overflow returns how many datagrams the kernel has dropped on the socket so far; only
// those with drops before them say it (socket(7), SO_RXQ_OVFL).
func overflow(control []byte) (uint32, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_RXQ_OVFL && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data), true
		}
	}
	return 0, false
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
