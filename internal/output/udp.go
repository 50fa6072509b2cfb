package output

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"sidecar/internal/gelf"
)

// Sizes of GELF over UDP.
const (
	// DefaultChunkBytes is the longest datagram unless the options say otherwise: it
	// fits one packet.
	DefaultChunkBytes = packetBytes
	// MinChunkBytes and MaxChunkBytes are what the longest datagram can be set to:
	// less makes nothing better, and IPv4 carries no more.
	MinChunkBytes = 512
	MaxChunkBytes = 65507

	maxChunks        = 128 // GELF 1.1 "Chunking"; Graylog discards more without a word
	chunkHeaderBytes = 12
)

// A full queue of a network device gets so many times so long to drain.
const (
	fullQueueTries = 500
	fullQueuePause = 2 * time.Millisecond
)

// UDPOptions configure a UDP output.
type UDPOptions struct {
	// Address is host:port; the host is looked up at every Connect.
	Address string
	// Compression is of messages that do not fit one datagram.
	Compression Compression
	// ChunkBytes is the longest datagram, MinChunkBytes to MaxChunkBytes; 0 means
	// DefaultChunkBytes. A longer message goes in up to 128 chunks.
	ChunkBytes int
	// DialTimeout bounds the look-up of the host; 0 means 10 seconds.
	DialTimeout time.Duration
}

// UDP sends each GELF document in one datagram, or in chunks (GELF 1.1 "Chunking").
// It is best effort: nobody says what became of a datagram, except that the
// receiver's machine may say that nobody listens. Its methods are for one goroutine.
type UDP struct {
	o      UDPOptions
	events chan Event
	conn   *net.UDPConn
	sender *ipv4.PacketConn // of conn, which may well be one of IPv6

	batch   []ipv4.Message         // what the next system call sends
	parts   [maxChunks][2][]byte   // header and payload of each
	headers [maxChunks]chunkHeader // of those that are chunks
	packed  compressor
	shrunk  []byte // the document that was too long
}

// chunkHeader is magic, message ID, sequence number and sequence count (GELF 1.1
// "Chunking").
type chunkHeader [chunkHeaderBytes]byte

// NewUDP returns an output that is not connected.
func NewUDP(o UDPOptions) *UDP {
	o.ChunkBytes = cmp.Or(o.ChunkBytes, DefaultChunkBytes)
	o.DialTimeout = cmp.Or(o.DialTimeout, defaultDialTimeout)
	// One cut is pending at most, and it is confirmed when it is made.
	return &UDP{o: o, events: make(chan Event, 1), batch: make([]ipv4.Message, 0, maxChunks), packed: compressor{kind: o.Compression}}
}

// Events delivers the confirmations.
func (u *UDP) Events() <-chan Event { return u.events }

// Connect looks up the host. It sends nothing, and cannot know whether anybody
// listens there.
func (u *UDP) Connect(ctx context.Context) error {
	d := net.Dialer{Timeout: u.o.DialTimeout}
	c, err := d.DialContext(ctx, "udp", u.o.Address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", u.o.Address, err)
	}
	u.conn = c.(*net.UDPConn)
	u.sender = ipv4.NewPacketConn(u.conn)
	return nil
}

// Send hands frames, which must be whole and end in NUL, to the kernel, and waits
// while that has no room. A document that does not fit into 128 chunks is cut; a
// *Rejected says that it cannot be. Any other error is that of the network, such
// as that nobody listened when an earlier datagram came.
func (u *UDP) Send(ctx context.Context, frames []byte) error {
	if u.conn == nil {
		return net.ErrClosed
	}
	if err := u.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send to %s: %w", u.o.Address, err)
	}
	stop := context.AfterFunc(ctx, func() { u.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	for len(frames) > 0 {
		n := bytes.IndexByte(frames, 0)
		doc := frames[:n]
		frames = frames[n+1:]
		if n <= u.o.ChunkBytes {
			u.add(nil, doc)
		} else if err := u.sendLong(ctx, doc); err != nil {
			return err
		}
		if len(u.batch) == cap(u.batch) || len(frames) == 0 {
			if err := u.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// add puts a datagram into the batch, which has room. Its parts must not change
// before flush.
func (u *UDP) add(header, payload []byte) {
	i := len(u.batch)
	u.batch = u.batch[:i+1]
	u.parts[i] = [2][]byte{header, payload}
	u.batch[i].Buffers = u.parts[i][:]
	if header == nil {
		u.batch[i].Buffers = u.parts[i][1:]
	}
}

// sendLong sends a document that does not fit one datagram.
func (u *UDP) sendLong(ctx context.Context, doc []byte) error {
	payload := doc
	if u.o.Compression != NoCompression {
		payload = u.packed.compress(doc)
	}
	perChunk := u.o.ChunkBytes - chunkHeaderBytes
	if len(payload) > maxChunks*perChunk {
		short, err := gelf.Shrink(u.shrunk[:0], doc, maxChunks*perChunk) // Graylog rule R13
		if err != nil {
			return &Rejected{Frame: bytes.Clone(doc), Err: err}
		}
		u.shrunk, payload = short, short
	}
	if err := u.flush(ctx); err != nil {
		return err
	}
	if len(payload) <= u.o.ChunkBytes {
		u.add(nil, payload)
	} else {
		u.addChunks(payload, perChunk)
	}
	return u.flush(ctx) // the payload's memory is used again
}

// addChunks puts the chunks of payload into the batch, which is empty.
func (u *UDP) addChunks(payload []byte, perChunk int) {
	// Graylog joins chunks by their ID alone, whoever sent them, so that it must be
	// one that nobody else has.
	var id [8]byte
	rand.Read(id[:])
	count := (len(payload) + perChunk - 1) / perChunk
	for i := range count {
		h := &u.headers[i]
		h[0], h[1] = 0x1e, 0x0f
		copy(h[2:], id[:])
		h[10], h[11] = byte(i), byte(count)
		n := min(perChunk, len(payload))
		u.add(h[:], payload[:n])
		payload = payload[n:]
	}
}

// flush sends the batch.
func (u *UDP) flush(ctx context.Context) error {
	batch, tries := u.batch, 0
	u.batch = u.batch[:0]
	for len(batch) > 0 {
		n, err := u.sender.WriteBatch(batch, 0)
		switch {
		case err == nil:
			batch, tries = batch[n:], 0
		case errors.Is(err, syscall.ENOBUFS) && tries < fullQueueTries:
			tries++
			err = pause(ctx, fullQueuePause)
			if err != nil {
				return fmt.Errorf("send to %s: %w", u.o.Address, err)
			}
		default:
			return fmt.Errorf("send to %s: %w", u.o.Address, err)
		}
	}
	return nil
}

// pause waits, at most until ctx is done, and then returns its error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Cut confirms everything sent so far, with an Event that is ready when it
// returns. An error says that nobody listened when one of the last datagrams came.
func (u *UDP) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	if u.conn == nil {
		return false, net.ErrClosed
	}
	if err := u.refused(); err != nil {
		return false, fmt.Errorf("send to %s: %w", u.o.Address, err)
	}
	u.events <- Event{Kind: Confirmed, Cut: id, Ack: AckNone} // there is room: one cut is pending at most
	return true, nil
}

// refused returns the error that the kernel keeps for the next datagram, if any:
// an ICMP message that came for an earlier one (RFC 1122 section 4.1.3.3).
func (u *UDP) refused() error {
	raw, err := u.conn.SyscallConn()
	if err != nil {
		return err
	}
	var pending int
	ctl := raw.Control(func(fd uintptr) { pending, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) })
	if err := errors.Join(ctl, err); err != nil || pending == 0 {
		return err
	}
	return syscall.Errno(pending)
}

// Abort closes the socket. Connect starts again.
func (u *UDP) Abort() {
	if u.conn != nil {
		u.conn.Close()
		u.conn, u.sender = nil, nil
	}
	for len(u.events) > 0 {
		<-u.events
	}
}
