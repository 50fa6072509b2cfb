package budget

import (
	"hash/maphash"

	"sidecar/internal/spool"
)

const (
	lanes = 256
	// ways is how many lanes a sender can be in.
	ways = 8
	// maxSenders bounds the senders of an input that are told apart in what was
	// discarded.
	maxSenders = 64
	// itemOverhead is what a datagram costs in memory besides its text, and
	// partOverhead what a part of one does, come or not.
	itemOverhead = 320
	partOverhead = 64
)

// Discard is messages of one sender that were discarded.
type Discard struct {
	// Sender is as given to Put; empty if there were too many to tell apart.
	Sender string
	// Messages is their number, and Bytes the length of their texts.
	Messages, Bytes uint64
}

// Backlog holds the datagrams of one socket until they are stored. Its methods may be
// called concurrently, Take by one goroutine.
//
// When the budget is used up, datagrams are discarded of the lane with the most bytes,
// whatever socket they came to: first the oldest of no importance (severity 6, 7 or not
// known, and what is not complete), then of some (4, 5), then errors (RFC 5424 section
// 6.2.1). This is fair queueing (RFC 8290 section 4.1), where one sender that floods pays
// for it. The lanes are a fixed table, so that many senders, forged ones too, need no
// memory. A sender's hash says in which lanes it can be; it shares one, and its fate, only
// when all of these have other senders' messages.
type Backlog struct {
	b     *Budget
	input string
	more  chan struct{} // capacity 1: there is something, or closed was set

	list      fifo // guarded by b.mu, like all that follows; in the order of their coming
	taken     int  // bytes that the last Take returned: they are being stored
	closed    bool
	discarded map[string]Discard // by sender; what was not told yet
	messages  Discard            // all since Backlog
}

// Backlog returns an empty backlog of an input, whose name counts in Stats.
func (b *Budget) Backlog(input string) *Backlog {
	return &Backlog{b: b, input: input, more: make(chan struct{}, 1), list: fifo{chain: 1}, discarded: map[string]Discard{}}
}

// lane holds the datagrams of a sender, or of some, by importance.
type lane struct {
	sender string // of the first one that came when it was empty
	ranks  [3]fifo
	bytes  int
}

// item is a datagram, or the parts of one that have come.
type item struct {
	spool.Message
	parts   [][]byte // of one that is not complete
	size    int
	text    int // bytes of Message.Text or of parts
	sender  string
	backlog *Backlog
	lane    *lane
	rank    *fifo
	links   [2]link // in its rank, and in its backlog
	queued  bool
}

type link struct{ before, behind *item }

// fifo is a first-in, first-out list of items, linked by links[chain].
type fifo struct {
	chain       int
	first, last *item
}

func (q *fifo) push(it *item) {
	it.links[q.chain] = link{before: q.last}
	if q.last == nil {
		q.first = it
	} else {
		q.last.links[q.chain].behind = it
	}
	q.last = it
}

func (q *fifo) remove(it *item) {
	l := it.links[q.chain]
	if l.before == nil {
		q.first = l.behind
	} else {
		l.before.links[q.chain].behind = l.behind
	}
	if l.behind == nil {
		q.last = l.before
	} else {
		l.behind.links[q.chain].before = l.before
	}
}

// rank returns how important a severity is (RFC 5424 section 6.2.1); -1 is not known.
func rank(severity int) int {
	switch {
	case severity < 0 || severity > 5:
		return 0
	case severity > 3:
		return 1
	}
	return 2
}

// Put takes a datagram, and its text with it; the severity is 0 to 7, or -1. It never
// waits.
func (q *Backlog) Put(m spool.Message, sender string, severity int) {
	q.b.mu.Lock()
	it := &item{Message: m, size: len(m.Text) + itemOverhead, text: len(m.Text), backlog: q, sender: sender}
	q.b.push(it, rank(severity))
	q.list.push(it)
	q.b.shed(it.size)
	q.b.mu.Unlock()
	q.signal()
}

// push adds it to the lane of its sender. mu must be held.
func (b *Budget) push(it *item, rank int) {
	l := b.lane(maphash.String(b.seed, it.sender), it.sender)
	it.lane, it.rank, it.queued = l, &l.ranks[rank], true
	it.rank.push(it)
	b.grow(it, it.size)
}

// grow counts n more bytes of it. mu must be held.
func (b *Budget) grow(it *item, n int) {
	it.lane.bytes += n
	b.queued += n
}

// lane returns the lane for a sender: the one with its datagrams, else an empty one.
// mu must be held.
func (b *Budget) lane(hash uint64, sender string) *lane {
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

// shed makes room for the last size bytes: what exceeds the budget, and, as freed memory
// belongs to the claims that wait, no more than came if it is only wanted by them. mu
// must be held.
func (b *Budget) shed(size int) {
	wanted := 0
	if first := b.waiting.Front(); first != nil && b.claimed+first.Value.(*waiter).bytes <= b.maxBytes/2 {
		wanted = first.Value.(*waiter).bytes
	}
	for before := b.queued; b.queued+b.claimed > b.maxBytes || b.queued+b.claimed+wanted > b.maxBytes && before-b.queued < size; {
		if !b.discard() {
			break
		}
	}
	b.grant() // a discarded datagram may be larger than the one that came
}

// discard discards a datagram of the fullest lane; false if there is none. mu must be
// held.
func (b *Budget) discard() bool {
	fullest := &b.lanes[0]
	for i := range b.lanes {
		if b.lanes[i].bytes > fullest.bytes {
			fullest = &b.lanes[i]
		}
	}
	for i := range fullest.ranks {
		if it := fullest.ranks[i].first; it != nil {
			b.remove(it)
			b.count(it)
			return true
		}
	}
	return false
}

// remove takes it out of all lists. Its bytes do not count any more. mu must be held.
func (b *Budget) remove(it *item) {
	it.rank.remove(it)
	if it.parts == nil {
		it.backlog.list.remove(it)
	}
	it.queued, it.parts = false, nil
	b.grow(it, -it.size)
}

// count counts a discarded datagram. mu must be held.
func (b *Budget) count(it *item) {
	q := it.backlog
	add := func(d Discard, sender string) Discard {
		return Discard{sender, d.Messages + 1, d.Bytes + uint64(it.text)}
	}
	q.messages = add(q.messages, "")
	sender := it.sender
	if _, known := q.discarded[sender]; !known && len(q.discarded) >= maxSenders {
		sender = ""
	}
	q.discarded[sender] = add(q.discarded[sender], sender)
	all := Sender{q.input, it.sender}
	if _, known := b.discarded[all]; !known && b.senders(q.input) >= maxSenders {
		all.Name = ""
	}
	b.discarded[all]++
}

// senders returns how many senders of an input were counted by name. mu must be held.
func (b *Budget) senders(input string) (n int) {
	for s := range b.discarded {
		if s.Input == input {
			n++
		}
	}
	return n
}

func (q *Backlog) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// More receives a value when Take has something to return, or has ended.
func (q *Backlog) More() <-chan struct{} { return q.more }

// Take appends the oldest messages to dst, about size bytes, and returns it; ended
// means that there are none and never will be. What it returns counts until the next
// call, by which it must be stored.
func (q *Backlog) Take(dst []spool.Message, size int) (_ []spool.Message, ended bool) {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	q.b.queued -= q.taken
	q.taken = 0
	for it := q.list.first; it != nil && q.taken < size; it = q.list.first {
		q.b.remove(it)
		q.taken += it.size
		dst = append(dst, it.Message)
	}
	q.b.queued += q.taken
	q.b.grant()
	return dst, len(dst) == 0 && q.closed
}

// Close says that nothing will be put any more.
func (q *Backlog) Close() {
	q.b.mu.Lock()
	q.closed = true
	q.b.mu.Unlock()
	q.signal()
}

// TakeDiscarded returns what was discarded since the last call, a sender each.
func (q *Backlog) TakeDiscarded() []Discard {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	var all []Discard
	for _, d := range q.discarded {
		all = append(all, d)
	}
	clear(q.discarded)
	return all
}

// Discarded returns the sum of what was discarded so far.
func (q *Backlog) Discarded() Discard {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	return q.messages
}

// Partial is a message of which parts are missing. It counts as a datagram that is not
// important, and may be discarded as one at any time. It is for one goroutine.
type Partial struct{ it *item }

// Begin returns a Partial of count parts. It must be ended by End.
func (q *Backlog) Begin(sender string, count int) Partial {
	it := &item{parts: make([][]byte, count), size: itemOverhead + count*partOverhead, backlog: q, sender: sender}
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	q.b.push(it, 0)
	q.b.shed(it.size)
	return Partial{it}
}

// Add copies part number i, from 0. It reports whether the Partial is still there.
func (p Partial) Add(i int, part []byte) bool {
	b := p.it.backlog.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if !p.it.queued {
		return false
	}
	p.it.parts[i] = append([]byte{}, part...)
	p.it.size += len(part)
	p.it.text += len(part)
	b.grow(p.it, len(part))
	b.shed(len(part))
	return p.it.queued
}

// End takes the parts out, which belong to the caller then. It returns false if the
// Partial was discarded, and so counted.
func (p Partial) End() ([][]byte, bool) {
	b := p.it.backlog.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if !p.it.queued {
		return nil, false
	}
	parts := p.it.parts
	b.remove(p.it)
	b.grant()
	return parts, true
}
