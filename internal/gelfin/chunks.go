package gelfin

import (
	"bytes"
	"container/list"
	"net/netip"
	"sync"
	"time"

	"sidecar/internal/budget"
)

// Limits of chunked messages (GELF 1.1, "Chunking").
const (
	maxChunks     = 128
	chunkHeader   = 12 // magic 0x1e 0x0f, message ID of 8 bytes, sequence number, sequence count
	chunkLifetime = 5 * time.Second
	// maxPending bounds the messages that are known by an ID: those of which chunks wait,
	// and those of which more may come that are not wanted any more.
	maxPending = 8192
)

// reassembler joins chunks of messages. Graylog knows a message by its ID alone; here the
// sender belongs to it, so that none can disturb another. What waits is of the budget, and
// is given up in time also when nothing comes any more: streams wait for that memory.
type reassembler struct {
	maxBytes int // of a message
	backlog  *budget.Backlog
	discard  func(reason string, messages uint64)
	now      func() time.Time

	mu      sync.Mutex
	pending map[chunkKey]*list.Element // guarded by mu, like all that follows
	oldest  list.List                  // of *chunked, by the time of their first chunk
	alarm   *time.Timer                // runs sweep while messages wait
}

type chunkKey struct {
	sender netip.Addr
	id     [8]byte
}

type chunked struct {
	key     chunkKey
	first   time.Time
	count   int
	have    [maxChunks / 64]uint64 // a bit for each chunk
	missing int
	bytes   int // of payloads
	chunks  budget.Partial
	gone    bool // it is discarded, and counted: the rest of it is passed over
}

// isChunk reports whether a datagram is a chunk, by its magic bytes.
func isChunk(datagram []byte) bool {
	return len(datagram) >= 2 && datagram[0] == 0x1e && datagram[1] == 0x0f
}

// take takes a datagram, which it copies, and returns the payload that it is or completes,
// else nil.
func (r *reassembler) take(sender netip.Addr, datagram []byte) []byte {
	if isChunk(datagram) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.add(r.now(), sender, datagram)
	}
	return bytes.Clone(datagram)
}

// add takes a chunk, which it copies, and returns the message that it completes, else nil.
// mu must be held.
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
		at = r.begin(&chunked{key: key, first: now, count: count, missing: count})
	}
	m := at.Value.(*chunked)
	if count != m.count {
		r.discard(ReasonChunk, 1)
		return nil
	}
	word, bit := &m.have[sequence/64], uint64(1)<<(sequence%64)
	if m.gone || *word&bit != 0 {
		return nil // a network may double datagrams
	}
	*word |= bit
	m.missing--
	m.bytes += len(datagram) - chunkHeader
	switch {
	case !m.chunks.Add(sequence, datagram[chunkHeader:]):
		m.gone = true
	case m.bytes > r.maxBytes:
		if _, there := m.chunks.End(); there {
			r.discard(ReasonTooLong, 1)
		}
		m.gone = true
	case m.missing == 0:
		r.forget(at)
		if chunks, there := m.chunks.End(); there {
			return bytes.Join(chunks, nil)
		}
	}
	return nil
}

// begin makes place for a message. mu must be held.
func (r *reassembler) begin(m *chunked) *list.Element {
	if r.pending == nil {
		r.pending = make(map[chunkKey]*list.Element)
	}
	if len(r.pending) >= maxPending {
		r.giveUp(r.oldest.Front())
	}
	m.chunks = r.backlog.Begin(m.key.sender.String(), m.count)
	at := r.oldest.PushBack(m)
	r.pending[m.key] = at
	if r.alarm == nil {
		r.alarm = time.AfterFunc(chunkLifetime, r.sweep)
	}
	return at
}

// sweep expires messages while no chunk comes.
func (r *reassembler) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(r.now())
	if r.alarm = nil; r.oldest.Len() > 0 {
		r.alarm = time.AfterFunc(chunkLifetime/5, r.sweep)
	}
}

// waits reports whether chunks of a message are missing.
func (r *reassembler) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.oldest.Len() > 0
}

func (r *reassembler) forget(at *list.Element) {
	delete(r.pending, r.oldest.Remove(at).(*chunked).key)
}

// giveUp forgets a message, and counts it unless it is counted.
func (r *reassembler) giveUp(at *list.Element) {
	r.forget(at)
	if _, there := at.Value.(*chunked).chunks.End(); there {
		r.discard(ReasonIncomplete, 1)
	}
}

// expire forgets messages whose first chunk came too long ago.
func (r *reassembler) expire(now time.Time) {
	for at := r.oldest.Front(); at != nil && now.Sub(at.Value.(*chunked).first) > chunkLifetime; at = r.oldest.Front() {
		r.giveUp(at)
	}
}

// close gives up all messages.
func (r *reassembler) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at := r.oldest.Front(); at != nil; at = r.oldest.Front() {
		r.giveUp(at)
	}
	if r.alarm != nil {
		r.alarm.Stop()
	}
}
