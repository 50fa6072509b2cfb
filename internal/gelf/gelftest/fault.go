package gelftest

import (
	"context"
	"fmt"
)

// Stall stops reading: connections stay open and new ones are accepted, but
// nothing more is read or handed to the Sink until Resume, except a message that
// is just being handed over. Senders see their windows close.
func (in *Input) Stall() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stalled = true
	for c := range in.conns {
		c.kickLocked()
	}
}

// Resume ends Stall.
func (in *Input) Resume() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stalled = false
	in.cond.Broadcast()
}

// Reset closes all open connections with RST (SO_LINGER 0), as the death of the
// process does while data is unread. When it returns, the Sink is called for
// them no more, except for a message that is just being handed over.
func (in *Input) Reset() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.resetLocked()
}

func (in *Input) resetLocked() {
	for c := range in.conns {
		c.resetLocked()
	}
	in.cond.Broadcast()
}

// CloseNow ends the Input's half of all open connections in an orderly way (FIN,
// with TLS close_notify) and never reads what they still send. Senders see EOF,
// also those that have not half-closed, and later a window that closes.
func (in *Input) CloseNow() {
	in.mu.Lock()
	var halves []halfCloser
	for c := range in.conns {
		c.frozen = true
		c.kickLocked()
		halves = append(halves, c.half)
	}
	in.mu.Unlock()
	for _, h := range halves {
		_ = h.CloseWrite() // the peer may have gone
	}
}

// HangUp closes all open connections as a Graylog that is stopped in an orderly
// way: EOF where nothing is unread, a reset where something is. What a sender
// writes afterwards succeeds once, is lost, and is answered with a reset; on
// Linux a sender that then half-closes and reads still gets EOF, not the reset.
func (in *Input) HangUp() {
	in.mu.Lock()
	halves := make(map[*conn]halfCloser)
	for c := range in.conns {
		c.frozen = true
		c.kickLocked()
		halves[c] = c.half
	}
	in.mu.Unlock()
	for c, half := range halves {
		if half != halfCloser(c.tcp) {
			_ = half.CloseWrite() // close_notify; the peer may have gone
		}
		c.Close()
	}
}

// RefuseNew closes the TCP and HTTP listeners: connecting fails with "connection
// refused". Open connections stay.
func (in *Input) RefuseNew() {
	for _, g := range []*gate{in.tcp, in.http} {
		if g != nil {
			g.refuse()
		}
	}
}

// AcceptNew ends RefuseNew: it listens on the same addresses again.
func (in *Input) AcceptNew() error {
	for _, g := range []*gate{in.tcp, in.http} {
		if g == nil {
			continue
		}
		if err := g.open(); err != nil {
			return err
		}
	}
	return nil
}

// KillAfter resets all connections right after n more messages went to the Sink,
// whatever was sent behind them; 0 resets them now. New connections are accepted
// as before. The channel is closed when it has happened; a later KillAfter
// replaces an earlier one.
func (in *Input) KillAfter(n int) <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.killAfter, in.killed = n, make(chan struct{})
	killed := in.killed
	in.killIfDueLocked()
	return killed
}

func (in *Input) killIfDueLocked() {
	if in.killAfter == 0 {
		in.killAfter = -1
		in.resetLocked()
		close(in.killed)
	}
}

// NeverEOF makes the Input swallow the half-close of TCP senders: it reads and
// hands over everything, but never closes its side, as a balancer that breaks
// half-close. Turning it off closes the connections that waited.
func (in *Input) NeverEOF(on bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.neverEOF = on
	in.cond.Broadcast()
}

// AnswerFIN makes the Input behave as a proxy that takes everything, answers a
// half-close by itself, and never passes on what it took: messages on TCP and
// HTTP connections do not reach the Sink, and the sender sees EOF.
func (in *Input) AnswerFIN(on bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.answerFIN = on
}

// Conns returns how many connections are open and how many were accepted so far.
func (in *Input) Conns() (open int, accepted uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.conns), in.accepted
}

// WaitConns returns nil as soon as n connections were accepted since Listen, or
// an error that says how many there were when ctx ends.
func (in *Input) WaitConns(ctx context.Context, n uint64) error {
	stop := context.AfterFunc(ctx, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.cond.Broadcast()
	})
	defer stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.accepted < n {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for %d connections: have %d: %w", n, in.accepted, err)
		}
		in.cond.Wait()
	}
	return nil
}
