package syslog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sidecar/internal/socket"
	"sidecar/internal/spool"
)

// storeBytes is about what is handed to the sink at once.
const storeBytes = 256 << 10

// receive reads the datagrams of s until ctx is done or the sink fails. The reader
// never waits for the sink: on a unix socket every writer of the machine would wait
// with it (net.unix.max_dgram_qlen), and the kernel drops what comes by UDP meanwhile.
func (l *Listener) receive(ctx, storing context.Context, s *socket.Socket) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = s.Datagram.SetReadDeadline(time.Now()) })()

	b := newBacklog(l.o.BacklogBytes, &l.counts)
	var read, store error
	var work, tell sync.WaitGroup
	work.Go(func() {
		read = l.read(ctx, s, b)
		b.close()
		cancel()
	})
	work.Go(func() {
		store = l.drain(storing, b)
		cancel()
	})
	tell.Go(func() { l.tellDiscards(ctx, b) })
	work.Wait()
	tell.Wait()
	l.tell(b.takeDiscarded())
	return errors.Join(read, store)
}

// drain stores what is in the backlog, until it is closed and empty.
func (l *Listener) drain(storing context.Context, b *backlog) error {
	var msgs []spool.Message
	for {
		var ended bool
		if msgs, ended = b.take(msgs[:0], storeBytes); ended {
			return nil
		}
		if len(msgs) == 0 {
			<-b.more
			continue
		}
		if err := l.o.Sink.Append(storing, msgs); err != nil {
			return fmt.Errorf("store messages: %w", err)
		}
		l.counts.stored(msgs)
		clear(msgs) // the texts belong to the garbage collector again
	}
}

func (l *Listener) tellDiscards(ctx context.Context, b *backlog) {
	t := time.NewTicker(l.o.DiscardEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.tell(b.takeDiscarded())
		case <-ctx.Done():
			return
		}
	}
}

func (l *Listener) tell(all []Discard) {
	for _, d := range all {
		if l.o.OnDiscard != nil {
			l.o.OnDiscard(d)
		}
	}
}
