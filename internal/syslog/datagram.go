package syslog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sidecar/internal/budget"
	"sidecar/internal/socket"
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
	// Socket identifies, for "kernel", the socket on this machine since it was booted
	// (SO_COOKIE, socket(7)), and Drops is its count with these messages, modulo 2^32:
	// what Options.KernelDrops is to return to the next process.
	Socket uint64
	Drops  uint32
}

// storeBytes is about what is handed to the sink at once.
const storeBytes = 256 << 10

// receive reads the datagrams of s until ctx is done or the sink fails. The reader
// never waits for the sink: on a unix socket every writer of the machine would wait
// with it (net.unix.max_dgram_qlen), and the kernel drops what comes by UDP meanwhile.
func (l *Listener) receive(ctx, storing context.Context, s *socket.Socket, b *budget.Backlog) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = s.Datagram.SetReadDeadline(time.Now()) })()

	var read, store error
	var work, tell sync.WaitGroup
	r := l.reader(s, b)
	work.Go(func() {
		read = r.read(ctx)
		b.Close()
		cancel()
	})
	work.Go(func() {
		store = l.drain(storing, b)
		cancel()
	})
	tell.Go(func() { l.tellDiscards(ctx, r) })
	work.Wait()
	tell.Wait()
	l.tell(r)
	return errors.Join(read, store)
}

// drain stores what is in the backlog, until it is closed and empty.
func (l *Listener) drain(storing context.Context, b *budget.Backlog) error {
	var msgs []spool.Message
	for {
		var ended bool
		if msgs, ended = b.Take(msgs[:0], storeBytes); ended {
			return nil
		}
		if len(msgs) == 0 {
			<-b.More()
			continue
		}
		if err := l.o.Sink.Append(storing, msgs); err != nil {
			return fmt.Errorf("store messages: %w", err)
		}
		l.counts.stored(msgs)
		clear(msgs) // the texts belong to the garbage collector again
	}
}

func (l *Listener) tellDiscards(ctx context.Context, r *reader) {
	t := time.NewTicker(l.o.DiscardEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.tell(r)
		case <-ctx.Done():
			return
		}
	}
}

// tell tells what was discarded since the last call.
func (l *Listener) tell(r *reader) {
	discarded := r.b.TakeDiscarded()
	kernel, drops := r.drops.Untold()
	if l.o.OnDiscard == nil {
		return
	}
	for _, d := range discarded {
		l.o.OnDiscard(Discard{Reason: "backlog", Sender: d.Sender, Messages: d.Messages, Bytes: d.Bytes})
	}
	if kernel > 0 {
		l.o.OnDiscard(Discard{Reason: "kernel", Messages: uint64(kernel), Socket: r.drops.Socket, Drops: drops})
	}
}
