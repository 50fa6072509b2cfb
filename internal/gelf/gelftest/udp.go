package gelftest

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Limits of chunked GELF (GELF 1.1, "Chunking") as Graylog applies them.
const (
	maxChunks       = 128
	chunkHeader     = 12
	chunkLifetime   = 5 * time.Second
	maxPendingBytes = 32 << 20 // ours: Graylog has no limit
)

// readUDP receives datagrams until the socket is closed.
func (in *Input) readUDP() {
	var r reassembler
	buf := make([]byte, 64<<10)
	for {
		n, addr, err := in.udp.ReadFromUDP(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			in.fail(fmt.Errorf("read datagram: %w", err))
			return
		}
		message, err := r.add(time.Now(), buf[:n])
		if err != nil {
			in.o.Logf("%s: discard datagram: %v", addr, err)
		}
		if message != nil {
			in.deliver(nil, Message{Transport: "udp", Remote: addr}, message)
		}
	}
}

// reassembler joins chunks. The key is the message ID alone, whoever sent it.
// The zero value is ready.
type reassembler struct {
	pending map[[8]byte]*pendingMessage
	bytes   int // of all chunks that wait
}

type pendingMessage struct {
	first  time.Time
	chunks [][]byte // nil: has not come
	have   int
	bytes  int
}

// add takes a datagram and returns the message that it is or completes, else
// nil. Chunks are copied; a message that is one datagram is the datagram.
func (r *reassembler) add(now time.Time, datagram []byte) ([]byte, error) {
	if len(datagram) < 2 {
		return nil, errTooShort
	}
	if datagram[0] != 0x1e || datagram[1] != 0x0f {
		return datagram, nil
	}
	if len(datagram) < chunkHeader {
		return nil, errors.New("chunk without header")
	}
	r.expire(now)
	id := [8]byte(datagram[2:10])
	sequence, count := int(datagram[10]), int(datagram[11])
	if count == 0 || count > maxChunks || sequence >= count {
		return nil, fmt.Errorf("chunk %d of %d", sequence, count)
	}
	p := r.pending[id]
	if p == nil {
		p = &pendingMessage{first: now, chunks: make([][]byte, count)}
		if r.pending == nil {
			r.pending = make(map[[8]byte]*pendingMessage)
		}
		r.pending[id] = p
	}
	if sequence >= len(p.chunks) {
		return nil, fmt.Errorf("chunk %d of a message of %d", sequence, len(p.chunks))
	}
	if p.chunks[sequence] != nil {
		return nil, fmt.Errorf("duplicate chunk %d", sequence)
	}
	payload := append([]byte{}, datagram[chunkHeader:]...) // not nil if empty
	p.chunks[sequence] = payload
	p.have++
	p.bytes += len(payload)
	r.bytes += len(payload)
	if p.have < len(p.chunks) {
		return nil, nil
	}
	r.remove(id, p)
	return bytes.Join(p.chunks, nil), nil
}

func (r *reassembler) remove(id [8]byte, p *pendingMessage) {
	delete(r.pending, id)
	r.bytes -= p.bytes
}

// expire forgets messages whose first chunk is too old, and all of them if they
// take too much memory.
func (r *reassembler) expire(now time.Time) {
	full := r.bytes > maxPendingBytes
	for id, p := range r.pending {
		if full || now.Sub(p.first) > chunkLifetime {
			r.remove(id, p)
		}
	}
}

// decompress returns the JSON of a GELF payload: gzip and zlib by their first
// two bytes, everything else is returned as it is. More than
// MaxDecompressedBytes is cut off silently, so that the JSON does not parse.
func decompress(payload []byte) ([]byte, error) {
	var stream io.ReadCloser
	var err error
	switch {
	case len(payload) < 2:
		return nil, errTooShort
	case payload[0] == 0x1f && payload[1] == 0x8b:
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(payload)); err == nil {
			z.Multistream(false) // what is behind is ignored
			stream = z
		}
	case isZlib(payload):
		stream, err = zlib.NewReader(bytes.NewReader(payload))
	case payload[0] == 0x1f, payload[0] == 0x78, payload[0] == 0x1e:
		return nil, fmt.Errorf("unsupported gelf payload beginning with % x", payload[:2])
	default:
		return payload, nil
	}
	if err != nil {
		return nil, fmt.Errorf("decompress gelf payload: %w", err)
	}
	defer stream.Close()
	out, err := io.ReadAll(io.LimitReader(stream, MaxDecompressedBytes))
	if err != nil {
		return nil, fmt.Errorf("decompress gelf payload: %w", err)
	}
	return out, nil
}
