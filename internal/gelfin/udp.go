package gelfin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/budget"
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

// runUDP reads datagrams until the end, and stores them beside that.
func (l *Listener) runUDP(storing context.Context, s *socket.Socket, b *budget.Backlog) {
	drops := s.Drops(l.told(s))
	reading, end := context.WithCancel(storing)
	var store, tell sync.WaitGroup
	store.Go(func() { l.storeBacklog(storing, b) })
	tell.Go(func() { l.tellDiscards(reading, b, drops) })
	l.receive(s, b, drops)
	b.Close()
	store.Wait()
	end()
	tell.Wait()
	l.tell(b, drops)
}

// told returns what says how many drops of a socket other processes have told; nil if
// there was none.
func (l *Listener) told(s *socket.Socket) func(uint64) uint32 {
	if s.Made {
		return nil
	}
	return l.o.KernelDrops
}

// tellDiscards tells of datagrams that were discarded, now and then.
func (l *Listener) tellDiscards(ctx context.Context, b *budget.Backlog, drops *socket.Drops) {
	t := time.NewTicker(l.o.DiscardEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.tell(b, drops)
		case <-ctx.Done():
			return
		}
	}
}

func (l *Listener) tell(b *budget.Backlog, drops *socket.Drops) {
	for _, d := range b.TakeDiscarded() {
		l.o.OnDiscard(Discard{Reason: ReasonBacklog, Sender: d.Sender, Messages: d.Messages})
	}
	if n, total := drops.Untold(); n > 0 {
		l.o.OnDiscard(Discard{Reason: ReasonKernel, Messages: uint64(n), Socket: drops.Socket, Drops: total})
	}
}

// chunkPause is how long a sender may need at the end for the rest of its chunks.
const chunkPause = 100 * time.Millisecond

// receive reads datagrams into the backlog until shut ends it, and then what has come by
// then. It never waits for the Sink.
func (l *Listener) receive(s *socket.Socket, b *budget.Backlog, drops *socket.Drops) {
	r := reassembler{maxBytes: l.o.MaxMessageBytes, backlog: b, discard: l.discard, now: l.o.Now}
	defer r.close() // what is not whole at the end never will be
	var peek peeker
	conn, buf, control := s.Datagram.(*net.UDPConn), make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	var until time.Time // when to end at the latest
	for until.IsZero() || readable(conn, r.pause()) {
		n, oobn, _, from, err := conn.ReadMsgUDPAddrPort(buf, control)
		switch late := errors.Is(err, os.ErrDeadlineExceeded); {
		case late && until.IsZero():
			until = time.Now().Add(l.o.StopTimeout / 2) // there may be a sender that never rests
			conn.SetReadDeadline(until)
		case late:
			return
		case err != nil:
			l.o.Log.Warn("receive gelf", "err", err)
			l.fail(err)
			return
		default:
			l.count(ReasonKernel, uint64(drops.Read(control[:oobn])))
			sender := from.Addr().Unmap()
			if payload := r.take(sender, buf[:n]); len(payload) > 0 {
				peer := sender.String()
				b.Put(l.message(payload, "udp", []byte(peer)), peer, peek.severity(payload))
			}
		}
	}
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

// pause returns how long to wait at the end for another datagram: the kernel has them at
// once, but for the rest of chunks.
func (r *reassembler) pause() time.Duration {
	if r.waits() {
		return chunkPause
	}
	return 0
}

// storeBytes is about what is taken of the backlog at once, and inflateBytes bounds what
// is decompressed of it before it is stored.
const (
	storeBytes   = 256 << 10
	inflateBytes = 1 << 20
)

// storeBacklog decompresses and stores datagrams until the backlog is closed.
func (l *Listener) storeBacklog(storing context.Context, b *budget.Backlog) {
	var list, msgs []spool.Message
	for {
		var ended bool
		if list, ended = b.Take(list[:0], storeBytes); ended {
			return
		}
		if len(list) == 0 {
			<-b.More()
			continue
		}
		bytes := 0
		for i := range list {
			m := list[i]
			text, err := inflate(m.Text, l.o.MaxMessageBytes)
			if err != nil {
				l.discard(reasonOf(err), 1)
				continue
			}
			if isBlank(text) {
				continue
			}
			m.Text = text
			msgs = append(msgs, m)
			if bytes += len(text); bytes >= inflateBytes {
				if !l.store(storing, msgs) {
					return
				}
				clear(msgs)
				msgs, bytes = msgs[:0], 0
			}
		}
		if !l.store(storing, msgs) {
			return
		}
		clear(msgs)
		clear(list) // the texts belong to the garbage collector again
		msgs = msgs[:0]
	}
}
