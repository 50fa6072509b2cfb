package budget

import (
	"context"
	"time"
)

// Linger is how long a stream that falls silent keeps memory that it does not need.
const Linger = 100 * time.Millisecond

const (
	// SmallBytes is what a Buffer has that holds no claim. It is not counted: a
	// connection costs the kernel and net more.
	SmallBytes = 4 << 10
	readBytes  = 64 << 10
)

// Buffer holds what was read of a stream and is not cut into messages yet. It is small
// until a message is longer, or reads are, and becomes so again as soon as it can be. It
// is for one goroutine.
type Buffer struct {
	claim    *Claim
	maxBytes int
	buf      []byte
	start    int // of what is not passed
	asked, n int // the last space, and what was read to it
}

// Buffer returns an empty Buffer for messages of at most maxMessageBytes; more belongs
// to its claim: what a stream has beside while messages are large.
func (b *Budget) Buffer(maxMessageBytes, moreBytes int) *Buffer {
	n := maxMessageBytes + readBytes + SmallBytes
	return &Buffer{claim: b.Claim(n + moreBytes), maxBytes: n}
}

// Large reports whether the Buffer holds its claim.
func (b *Buffer) Large() bool { return b.claim.Held() }

// Full reports whether Space has to take a claim, for which it may wait long.
func (b *Buffer) Full() bool { return !b.claim.Held() && len(b.Rest()) == SmallBytes }

// Spare reports whether the Buffer holds a claim that what is in it does not need. Then
// a read should wait no longer than Linger, and Space be called again.
func (b *Buffer) Spare() bool { return b.claim.Held() && len(b.Rest()) < SmallBytes }

// Wanted reports whether others wait for the memory of a large Buffer. Its message
// should then come to an end.
func (b *Buffer) Wanted() bool { return b.claim.Wanted() }

// Rest returns what is not passed. It is valid until the next call of Space.
func (b *Buffer) Rest() []byte { return b.buf[b.start:] }

// Pass passes over n bytes of Rest.
func (b *Buffer) Pass(n int) { b.start += n }

// Space returns where to read the next bytes to; it is not empty as long as Rest is not
// longer than a message and SmallBytes. It waits if it takes a claim. The error is that
// of ctx.
func (b *Buffer) Space(ctx context.Context) ([]byte, error) {
	rest := b.Rest()
	wanted := b.claim.Wanted()
	switch {
	case b.claim.Held() && len(rest) < SmallBytes && (wanted || b.n < SmallBytes):
		b.buf, wanted = append(make([]byte, 0, SmallBytes), rest...), false
		b.claim.Give()
	case b.buf == nil:
		b.buf = make([]byte, 0, SmallBytes)
	default:
		b.buf = append(b.buf[:0], rest...)
	}
	b.start = 0
	switch {
	case len(b.buf) == cap(b.buf) && !b.claim.Held():
		if err := b.claim.Take(ctx); err != nil {
			return nil, err
		}
	case b.n > 0 && b.n == b.asked && !b.claim.Held():
		b.claim.Try() // a large read costs as much as a small one
	}
	free := cap(b.buf) - len(b.buf)
	if b.claim.Held() && cap(b.buf) < b.maxBytes && (free == 0 || free < readBytes && !wanted) {
		b.buf = append(make([]byte, 0, min(2*cap(b.buf), b.maxBytes)), b.buf...)
	}
	space := b.buf[len(b.buf):cap(b.buf)]
	if wanted {
		// So that behind the end of the message there is no more than fits into a
		// small buffer.
		space = space[:min(len(space), SmallBytes)]
	}
	b.asked, b.n = len(space), 0
	return space, nil
}

// Wrote says that n bytes were read to Space.
func (b *Buffer) Wrote(n int) { b.buf, b.n = b.buf[:len(b.buf)+n], n }

// Close gives the memory back.
func (b *Buffer) Close() {
	b.buf, b.start = nil, 0
	b.claim.Give()
}
