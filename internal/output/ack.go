package output

import (
	"cmp"
	"errors"
	"sync"
	"time"
)

// Ack is what a Confirmed event stands on.
type Ack string

const (
	// AckHalfClose: the receiver has read to the end of the stream, and closed it
	// (Graylog rule R18). It is the receiver's own word, unless a proxy in between
	// closes on its behalf.
	AckHalfClose Ack = "half_close"
	// AckKernel: the kernel of the peer, which may be a proxy, has acknowledged all
	// bytes. What it has not passed on is lost if it dies, so what is confirmed so
	// must be kept for a while (Graylog rule R19).
	AckKernel Ack = "kernel"
	// AckNone: it was handed to our kernel.
	AckNone Ack = "none"
	// AckAuto is only for options: AckHalfClose, until that is seen to prove nothing.
	AckAuto Ack = "auto"
)

// KernelWindow is for how long what AckKernel confirms should be kept for sending
// it again: a receiver that takes nothing for that long is taken for dead.
const KernelWindow = userTimeout

const (
	// probeCut is the cut of a connection that is half-closed unused. It is not
	// reported.
	probeCut = ^uint64(0)
	// drainLimit is how many time-outs after a half-close, in a row, mean that the
	// end of stream does not come back through what is in between.
	drainLimit = 3
	// hangUpLimit is how many connections, in a row, that are accepted and closed
	// again mean that it is not the receiver that accepts them.
	hangUpLimit = 2
	// staysAfter is how long a connection must last to be worth using when the one
	// before did not; shortLife what such a one lasts at most.
	staysAfter = 200 * time.Millisecond
	shortLife  = time.Second
)

// proof is what confirms the cuts of a TCP output, and what was learned of it.
//
// A proxy between us and the receiver can break the half-close in two ways. If it
// swallows our FIN, no end of stream comes: that is found out by a probe, a
// connection that is half-closed unused, and by time-outs. If it answers our FIN
// itself (nginx stream without proxy_half_close), it does what a quick receiver
// does, and no byte and no time tells the two apart, as GELF receivers send nothing.
// Such a proxy gives itself away only when the receiver behind it is down: a machine
// whose port is closed refuses connections, a proxy accepts and then closes them.
type proof struct {
	auto bool // immutable

	mu      sync.Mutex
	mode    Ack  // guarded by mu
	probed  bool // guarded by mu: a probe came to its end
	drains  int  // guarded by mu: time-outs in a row
	hangUps int  // guarded by mu: connections in a row that ended unused
	short   bool // guarded by mu: the last connection did not last
}

func newProof(want Ack) proof {
	if want == AckAuto {
		return proof{auto: true, mode: AckHalfClose}
	}
	return proof{mode: cmp.Or(want, AckHalfClose)}
}

// ack returns what the next half-close is to wait for.
func (p *proof) ack() Ack {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// probeDue reports whether it is still to be found out if an end of stream comes
// back.
func (p *proof) probeDue() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.auto && !p.probed
}

// shortLived reports whether the last connection ended as soon as it was open.
func (p *proof) shortLived() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.auto && p.short
}

// learn takes how c ended by itself, with nil if its cut is confirmed. It returns a
// reason, and what confirms from now on, if that changed.
func (p *proof) learn(c *conn, err error) (Ack, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.probe {
		p.probed = p.probed || err == nil
		if errors.Is(err, errStuck) {
			p.probed, p.drains = true, drainLimit
		}
		return p.change()
	}
	p.short = err != nil && time.Since(c.since) < shortLife
	switch {
	case err == nil:
		p.drains, p.hangUps = 0, 0
	case errors.Is(err, errStuck):
		p.drains++
	case errors.Is(err, errEarlyEOF) && !c.used.Load() && p.short:
		p.hangUps++
	}
	return p.change()
}

// change returns what is to be confirmed by from now on, and a reason if that is
// new. p.mu must be held.
func (p *proof) change() (Ack, string) {
	reason := ""
	switch {
	case p.drains >= drainLimit:
		reason = "no end of stream comes back"
	case p.hangUps >= hangUpLimit:
		reason = "a proxy or load balancer accepts connections for it"
	}
	if !p.auto || reason == "" || p.mode == AckKernel {
		return p.mode, ""
	}
	p.mode = AckKernel
	return p.mode, reason
}
