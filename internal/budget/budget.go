// Package budget bounds the memory of everything that was received and is not stored
// yet, over all inputs together: one number of bytes. Streams claim memory before they
// read more than a little, and wait for it in the order in which they asked; so their
// senders wait. Datagrams cannot wait: when there is no room, those of the sender with
// the most of them are discarded, the least important first, and counted.
//
// It does not read sockets, and stores nothing.
package budget

import (
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"sync"
)

// defaultBytes is the budget of an input that is given none.
const defaultBytes = 16 << 20

// Budget is a number of bytes that inputs share. Claims have at most half of it,
// datagrams what claims leave. All methods may be called concurrently.
type Budget struct {
	maxBytes int
	seed     maphash.Seed

	mu        sync.Mutex
	claimed   int               // guarded by mu, like all that follows
	queued    int               // bytes of datagrams, those that are being stored included
	waiting   list.List         // of *waiter, in the order in which they came
	lanes     [lanes]lane       // the datagrams by sender
	discarded map[Sender]uint64 // messages since New
}

// New returns a Budget of maxBytes; 0 means defaultBytes.
func New(maxBytes int) *Budget {
	if maxBytes == 0 {
		maxBytes = defaultBytes
	}
	return &Budget{maxBytes: maxBytes, seed: maphash.MakeSeed(), discarded: map[Sender]uint64{}}
}

// Stats are figures of a Budget.
type Stats struct {
	// Claimed are the bytes that streams have, Queued those of datagrams; their sum
	// is never above the budget.
	Claimed, Queued int
	// Waiting is how many streams wait for memory.
	Waiting int
	// Discarded are the datagrams that were discarded since New, in messages. It has
	// at most 64 senders of each input; the others are the sender "".
	Discarded map[Sender]uint64
}

// Sender is who has sent datagrams to an input.
type Sender struct{ Input, Name string }

// Stats returns the figures. The map is the caller's.
func (b *Budget) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{Claimed: b.claimed, Queued: b.queued, Waiting: b.waiting.Len(), Discarded: make(map[Sender]uint64, len(b.discarded))}
	for sender, n := range b.discarded {
		s.Discarded[sender] = n
	}
	return s
}

// waiter is a claim that waits.
type waiter struct {
	bytes   int
	granted chan struct{} // closed when it has its bytes
}

// room reports whether a claim can have n bytes now. mu must be held.
func (b *Budget) room(n int) bool {
	return b.claimed+n <= b.maxBytes/2 && b.claimed+b.queued+n <= b.maxBytes
}

// grant gives what is free to those who wait, the first one first: a large claim is
// not passed by small ones. mu must be held.
func (b *Budget) grant() {
	for at := b.waiting.Front(); at != nil && b.room(at.Value.(*waiter).bytes); at = b.waiting.Front() {
		w := b.waiting.Remove(at).(*waiter)
		b.claimed += w.bytes
		close(w.granted)
	}
}

// Claim is the memory of one stream: nothing, or all that it can need at a time. As
// nobody holds a part and waits for the rest, claims cannot lock each other up. A Claim
// is for one goroutine.
type Claim struct {
	b     *Budget
	bytes int
	held  bool
}

// Claim returns a claim that does not hold its memory yet. One of more than half the
// budget counts as half of it.
func (b *Budget) Claim(bytes int) *Claim { return &Claim{b: b, bytes: min(bytes, b.maxBytes/2)} }

// Try takes the memory if it is there and nobody waits, and reports whether the claim
// holds it.
func (c *Claim) Try() bool {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if !c.held && c.b.waiting.Len() == 0 && c.b.room(c.bytes) {
		c.b.claimed += c.bytes
		c.held = true
	}
	return c.held
}

// Take waits until the claim holds its memory. The error is that of ctx.
func (c *Claim) Take(ctx context.Context) error {
	if c.Try() {
		return nil
	}
	w := &waiter{bytes: c.bytes, granted: make(chan struct{})}
	c.b.mu.Lock()
	at := c.b.waiting.PushBack(w)
	c.b.grant()
	c.b.mu.Unlock()
	select {
	case <-w.granted:
		c.held = true
		return nil
	case <-ctx.Done():
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	select {
	case <-w.granted:
		c.b.claimed -= c.bytes
	default:
		c.b.waiting.Remove(at)
	}
	c.b.grant() // those behind it
	return fmt.Errorf("wait for memory: %w", ctx.Err())
}

// Held reports whether the claim holds its memory.
func (c *Claim) Held() bool { return c.held }

// Wanted reports whether others wait for memory that this claim holds. Who holds it
// should then come to an end.
func (c *Claim) Wanted() bool {
	if !c.held {
		return false
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	return c.b.waiting.Len() > 0
}

// Give gives the memory back, if it is held.
func (c *Claim) Give() {
	if !c.held {
		return
	}
	c.held = false
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.b.claimed -= c.bytes
	c.b.grant()
}
