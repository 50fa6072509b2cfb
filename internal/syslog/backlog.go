package syslog

import (
	"hash/maphash"
	"sync"

	"sidecar/internal/spool"
)

// Discard is messages of one sender that were discarded for one reason.
type Discard struct {
	// Reason is "backlog": they came faster than they could be stored, and waited in
	// memory until its limit; or "kernel": they came while the kernel's receive
	// buffer was full (SO_RXQ_OVFL).
	Reason string
	// Sender is an IP address or, on a unix socket, a tag; empty for "kernel" and
	// when there were too many to tell apart.
	Sender string
	// Messages is their number, and Bytes the length of their texts, which for
	// "kernel" is not known.
	Messages, Bytes uint64
}

const (
	lanes = 256
	// ways is how many lanes a sender can be in.
	ways = 8
	// maxSenders bounds the senders that are told apart in what was discarded.
	maxSenders = 64
	// itemOverhead is what a datagram costs in memory besides its text.
	itemOverhead = 320
)

// backlog holds datagrams until the sink takes them, at most max bytes. When it is
// full it discards of the lane with the most bytes first the oldest message that is
// no error, then the oldest error: fair queueing (RFC 8290 section 4.1) where one
// sender that floods pays for it. The lanes are a fixed table, so that many senders,
// forged ones too, need no memory. A sender's hash says in which lanes it can be; it
// shares one, and its fate, only when all of these have other senders' messages.
type backlog struct {
	max    int
	counts *counts
	seed   maphash.Seed
	more   chan struct{} // capacity 1: there is something, or closed was set

	mu          sync.Mutex
	lanes       [lanes]lane
	first, last *item // in the order of their coming
	bytes       int
	closed      bool
	discarded   map[string]Discard // by sender; what was not told yet
	kernel      uint64             // the same of the kernel
}

// lane holds the messages of a sender, or of some: ordinary ones, and errors.
type lane struct {
	sender string // of the first message that came when it was empty
	queues [2]queue
	bytes  int
}

// queue is a first-in, first-out queue, linked by item.behind.
type queue struct{ first, last *item }

type item struct {
	spool.Message
	sender     string
	lane       *lane
	queue      *queue
	behind     *item // the next one of the queue
	prev, next *item // the neighbours of all queues
}

func (it *item) size() int { return len(it.Text) + itemOverhead }

func newBacklog(max int, c *counts) *backlog {
	return &backlog{max: max, counts: c, seed: maphash.MakeSeed(), more: make(chan struct{}, 1), discarded: map[string]Discard{}}
}

// put takes a message, and its text with it. isError is for severities up to 3.
func (b *backlog) put(m spool.Message, sender string, isError bool) {
	hash := maphash.String(b.seed, sender)
	b.mu.Lock()
	l := b.lane(hash, sender)
	q := &l.queues[0]
	if isError {
		q = &l.queues[1]
	}
	it := &item{Message: m, sender: sender, lane: l, queue: q}
	b.push(it)
	for b.bytes > b.max && b.first != b.last {
		b.discard()
	}
	b.mu.Unlock()
	b.signal()
}

// lane returns the lane for a sender: the one with its messages, else an empty one.
// mu must be held.
func (b *backlog) lane(hash uint64, sender string) *lane {
	set := b.lanes[hash%(lanes/ways)*ways:][:ways]
	l := &set[hash/lanes%ways]
	for i := range set {
		if set[i].bytes > 0 && set[i].sender == sender {
			return &set[i]
		}
		if set[i].bytes == 0 {
			l = &set[i]
		}
	}
	if l.bytes == 0 {
		l.sender = sender
	}
	return l
}

func (b *backlog) signal() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// push adds it. mu must be held.
func (b *backlog) push(it *item) {
	if it.prev = b.last; it.prev != nil {
		it.prev.next = it
	} else {
		b.first = it
	}
	b.last = it
	if q := it.queue; q.first == nil {
		q.first, q.last = it, it
	} else {
		q.last.behind = it
		q.last = it
	}
	it.lane.bytes += it.size()
	b.bytes += it.size()
}

// remove takes away the first of a queue. mu must be held.
func (b *backlog) remove(it *item) {
	it.queue.first = it.behind
	if it.prev != nil {
		it.prev.next = it.next
	} else {
		b.first = it.next
	}
	if it.next != nil {
		it.next.prev = it.prev
	} else {
		b.last = it.prev
	}
	it.lane.bytes -= it.size()
	b.bytes -= it.size()
}

// discard makes room. mu must be held.
func (b *backlog) discard() {
	longest := &b.lanes[0]
	for i := range b.lanes {
		if b.lanes[i].bytes > longest.bytes {
			longest = &b.lanes[i]
		}
	}
	it := longest.queues[0].first
	if it == nil {
		it = longest.queues[1].first
	}
	b.remove(it)
	b.counts.backlogMessages.Add(1)
	b.counts.backlogBytes.Add(uint64(len(it.Text)))
	sender := it.sender
	if _, known := b.discarded[sender]; !known && len(b.discarded) >= maxSenders {
		sender = ""
	}
	d := b.discarded[sender]
	b.discarded[sender] = Discard{"backlog", sender, d.Messages + 1, d.Bytes + uint64(len(it.Text))}
}

// take appends the oldest messages to dst, about size bytes, and returns it; ended
// means that there are none and never will be.
func (b *backlog) take(dst []spool.Message, size int) (_ []spool.Message, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for it := b.first; it != nil && size > 0; it = b.first {
		b.remove(it)
		size -= it.size()
		dst = append(dst, it.Message)
	}
	return dst, len(dst) == 0 && b.closed
}

// lose notes datagrams that the kernel dropped.
func (b *backlog) lose(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kernel += n
}

// close says that nothing will be put any more.
func (b *backlog) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.signal()
}

// takeDiscarded returns what was discarded since the last call.
func (b *backlog) takeDiscarded() []Discard {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Discard
	for _, d := range b.discarded {
		all = append(all, d)
	}
	clear(b.discarded)
	if b.kernel > 0 {
		all = append(all, Discard{Reason: "kernel", Messages: b.kernel})
		b.kernel = 0
	}
	return all
}
