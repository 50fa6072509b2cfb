package ship

import (
	"math/rand/v2"
	"time"
)

// Back-off between connection attempts: equal jitter, so that a fleet whose
// receiver comes back does not knock all at once, and is back within seconds.
const (
	backoffBase = 500 * time.Millisecond
	backoffCap  = 5 * time.Second
)

// backoff counts attempts since the last confirmation.
type backoff struct{ failures int }

// next returns how long to wait before the next attempt: half of a delay that
// doubles up to the cap, and a random part of the other half.
func (b *backoff) next() time.Duration {
	d := backoffCap
	if b.failures < 4 {
		d = min(backoffCap, backoffBase<<b.failures)
	}
	b.failures++
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.failures = 0 }
