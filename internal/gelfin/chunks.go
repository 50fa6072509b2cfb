package gelfin

import (
	"bytes"
	"container/list"
	"net/netip"
	"time"
)

// Limits of chunked messages (GELF 1.1, "Chunking").
const (
	maxChunks     = 128
	chunkHeader   = 12 // magic 0x1e 0x0f, message ID of 8 bytes, sequence number, sequence count
	chunkLifetime = 5 * time.Second
	// chunkOverhead is what a chunk costs besides its bytes, so that empty ones are not free.
	chunkOverhead = 64
)

// reassembler joins chunks of messages. Graylog knows a message by its ID alone; here the
// sender belongs to it, so that none can disturb another.
type reassembler struct {
	maxBytes   int // of a message
	maxPending int // of all chunks that wait
	discard    func(reason string, messages uint64)

	pending map[chunkKey]*list.Element
	oldest  list.List // of *chunked, by the time of their first chunk
	bytes   int
}

type chunkKey struct {
	sender netip.Addr
	id     [8]byte
}

type chunked struct {
	key    chunkKey
	first  time.Time
	chunks [][]byte // nil: has not come
	have   int
	bytes  int // of their payloads
}

// isChunk reports whether a datagram is a chunk, by its magic bytes.
func isChunk(datagram []byte) bool {
	return len(datagram) >= 2 && datagram[0] == 0x1e && datagram[1] == 0x0f
}

// add takes a chunk, which it copies, and returns the message that it completes, else nil.
func (r *reassembler) add(now time.Time, sender netip.Addr, datagram []byte) []byte {
	r.expire(now)
	if len(datagram) < chunkHeader {
		r.discard(ReasonChunk, 1)
		return nil
	}
	key := chunkKey{sender, [8]byte(datagram[2:10])}
	sequence, count := int(datagram[10]), int(datagram[11])
	if count == 0 || count > maxChunks || sequence >= count {
		r.discard(ReasonChunk, 1)
		return nil
	}
	at := r.pending[key]
	if at == nil {
		at = r.oldest.PushBack(&chunked{key: key, first: now, chunks: make([][]byte, count)})
		if r.pending == nil {
			r.pending = make(map[chunkKey]*list.Element)
		}
		r.pending[key] = at
		r.bytes += count * chunkOverhead
	}
	m := at.Value.(*chunked)
	if count != len(m.chunks) {
		r.discard(ReasonChunk, 1)
		return nil
	}
	if m.chunks[sequence] != nil {
		return nil // a network may double datagrams
	}
	m.chunks[sequence] = append([]byte{}, datagram[chunkHeader:]...) // not nil if empty
	m.have++
	n := len(datagram) - chunkHeader
	m.bytes += n
	r.bytes += n
	switch {
	case m.bytes > r.maxBytes:
		r.remove(at)
		r.discard(ReasonTooLong, 1)
	case m.have == count:
		r.remove(at)
		return bytes.Join(m.chunks, nil)
	}
	for r.bytes > r.maxPending {
		r.remove(r.oldest.Front())
		r.discard(ReasonChunkBytes, 1)
	}
	return nil
}

func (r *reassembler) remove(at *list.Element) {
	m := r.oldest.Remove(at).(*chunked)
	delete(r.pending, m.key)
	r.bytes -= m.bytes + len(m.chunks)*chunkOverhead
}

// expire forgets messages whose first chunk came too long ago.
func (r *reassembler) expire(now time.Time) {
	for at := r.oldest.Front(); at != nil && now.Sub(at.Value.(*chunked).first) > chunkLifetime; at = r.oldest.Front() {
		r.remove(at)
		r.discard(ReasonIncomplete, 1)
	}
}
