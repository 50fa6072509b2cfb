package syslog

import (
	"sync/atomic"

	"sidecar/internal/spool"
)

// Stats are figures of a Listener since it was made.
type Stats struct {
	// Messages and Bytes are what the sink has taken, without framing.
	Messages, Bytes uint64
	// Cut counts messages that were longer than the limit or ended with their stream,
	// CutBytes what was left out of the former.
	Cut, CutBytes uint64
	// Resyncs counts places in streams with octet counting where a count should have
	// been and was not.
	Resyncs uint64
	// Connections is the number of streams that are open.
	Connections int64
	// Accepted counts streams; RefusedTotal and RefusedAddress those that were closed
	// at once because of the two limits of connections, the former also for want of
	// descriptors; HandshakesFailed those without
	// a TLS handshake in time or in order; TimedOut those that were closed for
	// silence or slowness.
	Accepted, RefusedTotal, RefusedAddress, HandshakesFailed, TimedOut uint64
	// AcceptErrors counts failures to accept, such as for too many open files.
	AcceptErrors uint64
	// BacklogMessages and BacklogBytes count datagrams that were discarded because the
	// budget was used up, KernelMessages those that the kernel did not hold any more
	// (SO_RXQ_OVFL), of an inherited socket those beyond Options.KernelDrops.
	BacklogMessages, BacklogBytes, KernelMessages uint64
}

// counts is Stats, to be counted by many goroutines.
type counts struct {
	messages, bytes, cut, cutBytes, resyncs                                   atomic.Uint64
	connections                                                               atomic.Int64
	accepted, refusedTotal, refusedAddress, handshakes, timedOut, acceptError atomic.Uint64
	kernelMessages                                                            atomic.Uint64
}

// Stats returns the figures. It may be called concurrently with everything.
func (l *Listener) Stats() Stats {
	c := &l.counts
	s := Stats{
		Messages: c.messages.Load(), Bytes: c.bytes.Load(),
		Cut: c.cut.Load(), CutBytes: c.cutBytes.Load(), Resyncs: c.resyncs.Load(),
		Connections: c.connections.Load(), Accepted: c.accepted.Load(),
		RefusedTotal: c.refusedTotal.Load(), RefusedAddress: c.refusedAddress.Load(),
		HandshakesFailed: c.handshakes.Load(), TimedOut: c.timedOut.Load(), AcceptErrors: c.acceptError.Load(),
		KernelMessages: c.kernelMessages.Load(),
	}
	for _, b := range l.backlogs {
		if b == nil {
			continue
		}
		d := b.Discarded()
		s.BacklogMessages += d.Messages
		s.BacklogBytes += d.Bytes
	}
	return s
}

// stored counts messages that the sink has taken.
func (c *counts) stored(msgs []spool.Message) {
	n := 0
	for i := range msgs {
		n += len(msgs[i].Text)
	}
	c.messages.Add(uint64(len(msgs)))
	c.bytes.Add(uint64(n))
}

func (c *counts) framed(s *frameStats) {
	if *s != (frameStats{}) {
		c.cut.Add(s.cut)
		c.cutBytes.Add(s.cutBytes)
		c.resyncs.Add(s.resyncs)
		*s = frameStats{}
	}
}
