package syslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"sidecar/internal/budget"
	"sidecar/internal/header"
	"sidecar/internal/record"
	"sidecar/internal/socket"
	"sidecar/internal/spool"
)

const (
	// readBatch is how many datagrams one system call takes at most (recvmmsg(2)).
	readBatch = 64
	// enoughBuffer is a receive buffer that holds what comes while Gather passes.
	enoughBuffer = 1 << 20
	// maxPeers bounds the addresses whose text is kept.
	maxPeers = 1024
)

// reader puts datagrams into the backlog of a socket.
type reader struct {
	l       *Listener
	s       *socket.Socket
	b       *budget.Backlog
	unix    bool
	message spool.Message // the envelope
	decoder Decoder
	peers   map[netip.Addr]string
	buf     []byte
	drops   *socket.Drops
}

func (l *Listener) reader(s *socket.Socket, b *budget.Backlog) *reader {
	told := l.o.KernelDrops
	if s.Made {
		told = nil
	}
	return &reader{l: l, s: s, b: b, drops: s.Drops(told), peers: map[netip.Addr]string{},
		message: spool.Message{Source: []byte(source), Priority: -1, Transport: []byte("udp")}}
}

// read reads until ctx is done, and then what the kernel still holds.
func (r *reader) read(ctx context.Context) error {
	l, s := r.l, r.s
	raw, err := s.Conn().SyscallConn()
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	// systemd may have made a larger buffer than this process is allowed to.
	size, want := 0, l.o.ReceiveBufferBytes
	if !s.Made {
		want = 0
	}
	if err := raw.Control(func(fd uintptr) { size, err = setBuffer(int(fd), want) }); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	if err != nil {
		return fmt.Errorf("set the receive buffer: %w", err)
	}
	if size < l.o.ReceiveBufferBytes {
		l.o.Log.Info("the kernel holds fewer datagrams than it should (net.core.rmem_max; CAP_NET_ADMIN, or ReceiveBuffer= of a socket unit, overrides it)", "source", l.o.Listen, "bytes", size)
	}
	if u, ok := s.Datagram.(*net.UDPConn); ok {
		err = r.udp(ctx, u, size)
	} else {
		r.unix, r.message.Transport = true, []byte("unixgram")
		err = r.unixgram(raw)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = r.rest(raw)
	}
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// setBuffer asks for a receive buffer, beyond net.core.rmem_max if allowed, unless
// size is 0, and returns what there is (socket(7)). The kernel counts its own overhead in, and so
// doubles what is asked for; so half of what it says compares with it.
func setBuffer(fd, size int) (int, error) {
	if size > 0 && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size); err != nil {
			return 0, err
		}
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0, err
	}
	return got / 2, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
}

// udp reads many datagrams at a time.
func (r *reader) udp(ctx context.Context, c *net.UDPConn, buffer int) error {
	batch := make([]ipv4.Message, readBatch)
	for i := range batch {
		batch[i] = ipv4.Message{Buffers: [][]byte{make([]byte, r.l.o.MaxMessageBytes)}, OOB: make([]byte, unix.CmsgSpace(4))}
	}
	p := ipv4.NewPacketConn(c) // batches are not about IPv4: it reads IPv6 sockets too
	for {
		n, err := p.ReadBatch(batch, unix.MSG_TRUNC)
		if err != nil {
			return err
		}
		r.message.TimeUsec = time.Now().UnixMicro()
		for i := range batch[:n] {
			m := &batch[i]
			var from netip.Addr
			if a, ok := m.Addr.(*net.UDPAddr); ok {
				from = a.AddrPort().Addr().Unmap()
			}
			r.take(m.Buffers[0], m.N, r.peer(from))
		}
		r.countDrops(batch[0].OOB[:batch[0].NN])
		r.countDrops(batch[n-1].OOB[:batch[n-1].NN])
		if n < readBatch/2 && buffer >= enoughBuffer && r.l.o.Gather > 0 {
			wait(ctx, r.l.o.Gather)
		}
	}
}

// unixgram reads datagrams one by one: few fit into the queue of such a socket.
func (r *reader) unixgram(raw syscall.RawConn) error {
	for {
		var failure error
		err := raw.Read(func(fd uintptr) bool {
			var n int
			n, failure = r.available(int(fd))
			return failure != nil || n > 0
		})
		if err = errors.Join(err, failure); err != nil {
			return err
		}
	}
}

// rest reads what the kernel holds at the end, and not what comes meanwhile for ever.
func (r *reader) rest(raw syscall.RawConn) (err error) {
	for end := time.Now().Add(r.l.o.StopTimeout / 2); err == nil && time.Now().Before(end); {
		n := 0
		if failure := raw.Control(func(fd uintptr) { n, err = r.available(int(fd)) }); failure != nil {
			return failure
		}
		if n == 0 {
			break
		}
	}
	return err
}

// available reads datagrams that have come already, at most readBatch, and returns
// their number.
func (r *reader) available(fd int) (n int, err error) {
	r.buf = slices.Grow(r.buf[:0], r.l.o.MaxMessageBytes)[:r.l.o.MaxMessageBytes]
	var oob [64]byte
	for n < readBatch {
		size, oobn, _, from, err := unix.Recvmsg(fd, r.buf, oob[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return n, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return n, err
		}
		n++
		r.message.TimeUsec = time.Now().UnixMicro()
		r.take(r.buf, size, r.peer(addrOf(from)))
		r.countDrops(oob[:oobn])
	}
	return n, nil
}

// addrOf returns the IP address of a sender, or the zero Addr.
func addrOf(s unix.Sockaddr) netip.Addr {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(s.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(s.Addr).Unmap()
	}
	return netip.Addr{}
}

// peer returns the text of an address, empty for the zero Addr.
func (r *reader) peer(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	if text, ok := r.peers[a]; ok {
		return text
	}
	if len(r.peers) >= maxPeers {
		clear(r.peers)
	}
	text := a.WithZone("").String()
	r.peers[a] = text
	return text
}

// take puts a datagram of size octets, as many as fitted into buf, into the backlog.
func (r *reader) take(buf []byte, size int, peer string) {
	if over := size - len(buf); over > 0 {
		r.l.counts.cut.Add(1)
		r.l.counts.cutBytes.Add(uint64(over))
		size = len(buf)
	}
	text := trimEnd(buf[:size])
	if len(text) == 0 {
		return
	}
	m := r.message
	m.Text = bytes.Clone(text)
	if peer != "" {
		m.Peer = []byte(peer)
		m.Host = m.Peer
	}
	sender, pri := peer, -1
	if r.unix {
		e := record.Entry{Message: m.Text, Priority: -1}
		r.decoder.Decode(&e)
		sender, pri = string(e.Identifier), int(e.Priority)
	} else if p, n := header.Priority(text); n > 0 {
		pri = p & 7
	}
	r.b.Put(m, sender, pri)
}

// countDrops reads the kernel's count of dropped datagrams, which it sends along.
func (r *reader) countDrops(oob []byte) { r.l.counts.kernelMessages.Add(uint64(r.drops.Read(oob))) }
