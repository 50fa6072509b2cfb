package ship

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/output"
)

// clocked is an output that notes when how many frames came.
type clocked struct {
	output.Output
	start time.Time
	got   []byte
	at    []time.Duration // of each frame
	err   error
}

func (c *clocked) Send(_ context.Context, frames []byte) error {
	c.got = append(c.got, frames...)
	for range bytes.Count(frames, []byte{0}) {
		c.at = append(c.at, time.Since(c.start))
	}
	return c.err
}

func TestPace(t *testing.T) {
	for rate, step := range map[int]int{1: 1, 19: 1, 40: 2, 1000: 50} {
		synctest.Test(t, func(t *testing.T) {
			c := &clocked{start: time.Now()}
			out := Pace(c, rate)
			var want []byte
			send := func(n int) {
				t.Helper()
				frames := bytes.Repeat([]byte("{}\x00"), n)
				want = append(want, frames...)
				if err := out.Send(t.Context(), frames); err != nil {
					t.Fatal(err)
				}
			}
			send(0)
			send(3)
			send(2 * rate)
			time.Sleep(10 * time.Second) // of the test's clock: is not made up for
			send(rate)
			if !bytes.Equal(c.got, want) {
				t.Fatalf("rate %d: %d bytes, want %d", rate, len(c.got), len(want))
			}
			// In no second more than the rate, but for the step that begins it.
			for i := rate + step; i < len(c.at); i++ {
				if d := c.at[i] - c.at[i-rate-step]; d < time.Second {
					t.Fatalf("rate %d: frames %d to %d within %v", rate, i-rate-step, i, d)
				}
			}
			// And without waiting for longer than needed.
			if last := c.at[len(c.at)-1]; last > 10*time.Second+time.Duration(3*rate+3)*time.Second/time.Duration(rate) {
				t.Errorf("rate %d: the last frame after %v", rate, last)
			}
		})
	}
}

func TestPaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clocked{start: time.Now()}
		out := Pace(c, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		if err := out.Send(ctx, bytes.Repeat([]byte("{}\x00"), 10)); !errors.Is(err, context.DeadlineExceeded) || len(c.at) != 3 {
			t.Errorf("%v after %d frames, want 3", err, len(c.at))
		}
		c.err = errBroken
		if err := out.Send(t.Context(), []byte("{}\x00{}\x00")); !errors.Is(err, errBroken) || len(c.at) != 4 {
			t.Errorf("%v after %d frames, want 4", err, len(c.at))
		}
	})
}
