// Package grace gives work that is under way a bounded time to end. It ends nothing by
// itself: it says by a context when the time is over.
package grace

import (
	"context"
	"sync"
	"time"
)

// Context returns a context with the values of ctx that ends d after ctx does. stop ends
// it at once, and returns after what was started for it has ended; it may be called more
// than once, and must be called.
func Context(ctx context.Context, d time.Duration) (work context.Context, stop func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	unused := context.AfterFunc(ctx, func() {
		defer close(ended)
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-work.Done():
		}
	})
	return work, sync.OnceFunc(func() {
		cancel()
		if !unused() {
			<-ended
		}
	})
}
