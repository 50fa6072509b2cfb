package ship

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/output"
	"sidecar/internal/parse"
)

// storm is a receiver that dies and comes back. It notes who connects when.
type storm struct {
	start      time.Time
	dies, back time.Duration // after start

	mu        sync.Mutex
	tries     map[time.Duration]int // guarded by mu: attempts while it is down, by tenths of a second since it died
	connected map[time.Duration]int // guarded by mu: the same for connections since it is back
	moves     map[time.Duration]int // guarded by mu: planned moves, by seconds since it is back
}

const tenth = 100 * time.Millisecond

// connect counts an attempt.
func (s *storm) connect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch at := time.Since(s.start); {
	case at >= s.back:
		s.connected[(at-s.back).Truncate(tenth)]++
	case at >= s.dies:
		s.tries[(at-s.dies).Truncate(tenth)]++
		return &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	return nil
}

func (s *storm) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := time.Since(s.start); at >= s.back {
		s.moves[(at-s.back).Truncate(time.Second)]++
	}
}

// client is the output of one agent to a storm; what it sends is confirmed at once.
type client struct {
	storm  *storm
	events chan output.Event
	death  *time.Timer
}

func (c *client) Connect(context.Context) error {
	if err := c.storm.connect(); err != nil {
		return err
	}
	if left := time.Until(c.storm.start.Add(c.storm.dies)); left > 0 {
		c.death = time.AfterFunc(left, func() { c.events <- output.Event{Kind: output.Failed, Err: net.ErrClosed} })
	}
	return nil
}

func (c *client) Send(context.Context, []byte) error { return nil }

func (c *client) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	c.storm.moved()
	c.events <- output.Event{Kind: output.Confirmed, Cut: id}
	return true, nil
}

func (c *client) Events() <-chan output.Event { return c.events }

func (c *client) Abort() {
	if c.death != nil {
		c.death.Stop()
	}
	for len(c.events) > 0 {
		<-c.events
	}
}

// run has n agents, each a Line with a Group as logship makes them, live through it for
// a time after the receiver is back.
func (s *storm) run(t *testing.T, n int, after time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		s.start = time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range n {
			group := output.NewGroup(output.GroupOptions{Reconnect: 10 * time.Minute, Targets: []output.Target{
				// As many events as a TCP output has room for.
				{Name: "receiver", Output: &client{storm: s, events: make(chan output.Event, 8)}}}})
			line := New(Options{Sources: []Source{newMemory(1)}, Output: group, Metrics: NewMetrics(1), Log: slog.New(slog.DiscardHandler),
				Pipeline: Pipeline{Parser: parse.New(parse.Options{}), GELF: gelf.Options{Host: "h"}}})
			all.Go(func() {
				if err := line.Run(ctx); err != nil && !errors.Is(err, ErrUnconfirmed) {
					t.Error(err)
				}
			})
		}
		time.Sleep(s.back + after) // in the bubble's time
		cancel()
		all.Wait()
	})
}

// sum returns all of a histogram, its highest value, and its last key.
func sum(h map[time.Duration]int, from time.Duration) (all, peak int, last time.Duration) {
	for at, n := range h {
		if at >= from {
			all, peak, last = all+n, max(peak, n), max(last, at)
		}
	}
	return all, peak, last
}

// TestReconnectStorm: a receiver of 2,000 agents dies and is back after a minute. They
// neither knock together while it is down nor when it is back, all are there within
// the longest delay, and their planned moves stay apart.
//
// The bounds follow from the delays, uniform between 2.5 and 5 s after the first few
// seconds: then an agent tries every 3.75 s in the mean, so 53 of 2,000 do within a tenth of
// a second, give or take 7; eight times that deviation never happens.
func TestReconnectStorm(t *testing.T) {
	const agents, runs = 2000, 2
	s := &storm{dies: 10 * time.Second, back: 70 * time.Second,
		tries: map[time.Duration]int{}, connected: map[time.Duration]int{}, moves: map[time.Duration]int{}}
	for range runs { // the race detector does not take the goroutines of all at once
		s.run(t, agents/runs, 13*time.Minute)
	}
	_, first, _ := sum(s.tries, 0)
	tries, peak, _ := sum(s.tries, 20*time.Second) // the delays are at their longest and the agents mixed
	back, rush, last := sum(s.connected, 0)
	moves, together, _ := sum(s.moves, time.Minute)
	t.Logf("first tenth: %d; tries per second: %d, at most %d in a tenth; back: %d, at most %d in a tenth, the last after %v; moves: %d, at most %d in a second",
		first, tries/40, peak, back, rush, last+tenth, moves, together)
	// The first delay is 0.25 to 0.5 s: 800 in a tenth, give or take 22.
	if first < agents/10 || first > 1000 {
		t.Errorf("%d try in one tenth of a second at first", first)
	}
	if perSecond := tries / 40; perSecond < 500 || perSecond > 570 || peak > 115 {
		t.Errorf("%d tries per second while it is down, %d in one tenth", perSecond, peak)
	}
	if back != agents || rush > 115 || last >= backoffCap {
		t.Errorf("%d are back, %d in one tenth of a second, the last after %v", back, rush, last)
	}
	// Every 7.5 to 12.5 minutes: 6.7 in a second at the most crowded, give or take 2.6.
	if moves < agents || together > 30 {
		t.Errorf("%d planned moves, %d in one second", moves, together)
	}
}
