package ship

import (
	"math/rand/v2"
	"time"
)

// backoff is the time between attempts to connect: equal jitter, so that a fleet
// whose receiver comes back does not knock all at once, and is back within
// seconds. It counts attempts since the last confirmation.
type backoff struct {
	base, cap time.Duration
	failures  int
}

// next returns how long to wait before the next attempt: half of a delay that
// doubles up to the cap, and a random part of the other half.
func (b *backoff) next() time.Duration {
	d := b.base
	for range b.failures {
		if d *= 2; d >= b.cap {
			d = b.cap
			break
		}
	}
	b.failures++
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.failures = 0 }
