package ship

import (
	"bytes"
	"context"
	"time"

	"sidecar/internal/output"
)

// Pace returns an output that sends at most rate frames per second, rate being
// more than 0, and is out in all else. Send waits.
func Pace(out output.Output, rate int) output.Output { return &paced{Output: out, rate: rate} }

type paced struct {
	output.Output
	rate int
	due  time.Time // of the next frames
}

// paceStep is how much of the rate is sent at once: often enough to be smooth,
// seldom enough to cost nothing.
const paceStep = 50 * time.Millisecond

// Send sends frames, a step at a time. What is idle is not made up for later.
func (p *paced) Send(ctx context.Context, frames []byte) error {
	step := max(1, p.rate/int(time.Second/paceStep))
	for len(frames) > 0 {
		n, end := head(frames, step)
		timer := time.NewTimer(time.Until(p.due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		if err := p.Output.Send(ctx, frames[:end]); err != nil {
			return err
		}
		if now := time.Now(); p.due.Before(now) {
			p.due = now
		}
		p.due = p.due.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
		frames = frames[end:]
	}
	return nil
}

// head returns how many frames, at most limit, are the first end bytes of frames.
func head(frames []byte, limit int) (n, end int) {
	for n < limit && end < len(frames) {
		end += bytes.IndexByte(frames[end:], 0) + 1
		n++
	}
	return n, end
}
