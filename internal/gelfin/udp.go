package gelfin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
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

// chunkPause is how long a sender may need at the end for the rest of its chunks.
const chunkPause = 100 * time.Millisecond

// receive reads datagrams into the backlog until shut ends it, and then what has come by
// then.
func (l *Listener) receive(s *socket.Socket, b *backlog) {
	r := reader{l: l, b: b, conn: s.Datagram.(*net.UDPConn), inherited: !s.Made,
		chunks: reassembler{maxBytes: l.o.MaxMessageBytes, maxPending: l.o.ChunkBytes, discard: l.o.OnDiscard},
		buf:    make([]byte, 64<<10), control: make([]byte, unix.CmsgSpace(4))}
	err := r.read()
	if errors.Is(err, os.ErrDeadlineExceeded) && l.ending() {
		r.conn.SetReadDeadline(time.Now().Add(l.o.StopTimeout / 2)) // there may be a sender that never rests
		for err = nil; err == nil && readable(r.conn, r.chunks.pause()); {
			err = r.next()
		}
		r.chunks.expire(l.o.Now().Add(2 * chunkLifetime)) // what is not whole now never will be
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		l.o.Log.Warn("receive gelf", "err", err)
		l.fail(err)
	}
}

// reader puts datagrams into a backlog.
type reader struct {
	l            *Listener
	b            *backlog
	conn         *net.UDPConn
	chunks       reassembler
	dropped      uint32 // by the kernel, as far as counted
	inherited    bool   // what it dropped up to the next datagram was counted by another process
	buf, control []byte
}

func (r *reader) read() (err error) {
	for err == nil {
		err = r.next()
	}
	return err
}

// next takes one datagram, and puts it, or the message that it completes, into the backlog.
func (r *reader) next() error {
	n, oobn, _, from, err := r.conn.ReadMsgUDPAddrPort(r.buf, r.control)
	if err != nil {
		return err
	}
	count := overflow(r.control[:oobn])
	if lost := count - r.dropped; lost > 0 && !r.inherited {
		r.l.o.OnDiscard(ReasonKernel, uint64(lost)) // modulo 2^32, as the kernel counts
	}
	r.dropped, r.inherited = count, false
	payload, sender := r.buf[:n], from.Addr().Unmap()
	if isChunk(payload) {
		payload = r.chunks.add(r.l.o.Now(), sender, payload)
	}
	if len(payload) > 0 && !r.b.add(payload, sender.AppendTo(nil)) {
		r.l.o.OnDiscard(ReasonBacklog, 1)
	}
	return nil
}

// readable waits until the kernel has a datagram; false if none came in time. A deadline
// would not do: a process that gets no time to read within it leaves what is there.
func readable(c *net.UDPConn, wait time.Duration) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	control := raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for n, err = unix.Poll(fds, int(wait.Milliseconds())); errors.Is(err, unix.EINTR); {
			n, err = unix.Poll(fds, int(wait.Milliseconds()))
		}
	})
	return control == nil && err == nil && n > 0
}

// pause returns how long to wait at the end for another datagram.
func (r *reassembler) pause() time.Duration {
	if len(r.pending) > 0 {
		return chunkPause
	}
	return 0
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
