package grace_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/grace"
)

func TestContextOutlivesItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		work, stop := grace.Context(ctx, time.Minute)
		defer stop()
		time.Sleep(time.Hour) // of the test's clock
		if work.Err() != nil {
			t.Error("ended before ctx")
		}
		cancel()
		end := time.Now()
		<-work.Done()
		if d := time.Since(end); d != time.Minute {
			t.Errorf("ended %v after ctx", d)
		}
	})
}

// TestStop: nothing is left behind, or synctest fails, whether ctx has ended or not.
func TestStop(t *testing.T) {
	for _, ended := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			work, stop := grace.Context(ctx, time.Minute)
			if ended {
				cancel()
				synctest.Wait()
			}
			begin := time.Now()
			stop()
			stop()
			if work.Err() == nil || !time.Now().Equal(begin) {
				t.Errorf("%v after %v", work.Err(), time.Since(begin))
			}
			cancel()
		})
	}
}
