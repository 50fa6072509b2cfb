package ship

import (
	"context"
	"errors"
	"sync"
)

// group runs the sources' goroutines.
type group struct {
	ctx    context.Context
	wg     sync.WaitGroup
	failed chan error // capacity 1: the first failure ends the line

	mu   sync.Mutex
	errs []error // guarded by mu
}

func newGroup(ctx context.Context) *group {
	return &group{ctx: ctx, failed: make(chan error, 1)}
}

func (g *group) start(run func(context.Context) error) {
	g.wg.Go(func() {
		err := run(g.ctx)
		if err == nil || g.ctx.Err() != nil {
			return
		}
		select {
		case g.failed <- err:
		default:
			g.mu.Lock()
			g.errs = append(g.errs, err)
			g.mu.Unlock()
		}
	})
}

// wait returns after all have ended, with the errors that nobody has received.
func (g *group) wait() error {
	g.wg.Wait()
	select {
	case err := <-g.failed:
		g.errs = append(g.errs, err)
	default:
	}
	return errors.Join(g.errs...)
}
