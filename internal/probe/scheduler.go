package probe

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"sidecar/internal/health"
)

// Sink takes a result. It is called by one goroutine at a time, and holds up all
// checks while it runs. reprobe asks for the next run soon: after a first failure.
type Sink func(id string, at time.Time, r health.Result) (reprobe bool)

// The timing of the Scheduler.
const (
	// DefaultConcurrency is how many checks run at once.
	DefaultConcurrency = 32
	// spread is over which time the first runs of new checks are spread.
	spread = 3 * time.Second
	// jitter is by how much the time between two runs differs from Every, as a part of
	// it, so that checks do not gather.
	jitter = 0.05
	// fast is the time to a run that the sink asked for.
	fast = time.Second
	// gather is by how much a run may be late, so that several start together: waking
	// the process costs more than a check does.
	gather = 250 * time.Millisecond
	// overtime is how long after its Timeout a run is given up: a system call on a dead
	// network file system cannot be stopped.
	overtime = 2 * time.Second
	// beatEvery is how often the loop goes round at least.
	beatEvery = time.Second
	// patience is how long Run waits for checks that do not return when it ends.
	patience = 3 * time.Second
)

// Scheduler runs checks in the background, each on its own interval, spread evenly.
// Its methods may be called concurrently.
type Scheduler struct {
	sink        Sink
	concurrency int
	wake        chan struct{}   // something is due that the loop does not know of
	done        chan completion // unbuffered: the loop takes every end

	beat    atomic.Int64 // nanoseconds from epoch to the last round of the loop
	epoch   time.Time    // for the monotonic clock; immutable
	runs    atomic.Uint64
	overdue atomic.Uint64

	mu      sync.Mutex
	entries map[string]*entry // guarded by mu, like all that follows
	queue   queue             // those that are not running
	running map[*entry]struct{}
	stuck   int // runs that were given up and have not returned
}

// entry is a check and where it stands.
type entry struct {
	check   Check
	due     time.Time
	index   int  // in the queue; -1: not in it
	fresh   bool // is not spread yet
	removed bool
	stuck   bool      // the run was given up
	start   time.Time // of the run
	last    time.Time // start of the last run that ended
	took    time.Duration
	state   health.State
}

// completion is the end of a run.
type completion struct {
	e *entry
	r health.Result
}

// NewScheduler returns a Scheduler without checks that runs at most concurrency of
// them at once; 0 means DefaultConcurrency. It starts nothing.
func NewScheduler(concurrency int, sink Sink) *Scheduler {
	if concurrency <= 0 {
		concurrency = DefaultConcurrency
	}
	return &Scheduler{sink: sink, concurrency: concurrency, wake: make(chan struct{}, 1), done: make(chan completion),
		epoch: time.Now(), entries: map[string]*entry{}, running: map[*entry]struct{}{}}
}

// Set replaces the checks. One whose ID and Key were there before goes on as if
// nothing had happened, with its old Run and what that remembers; others start within
// 3 seconds, or within Every if that is less. Results of a check that is not there any
// more are dropped. The IDs must differ; the slice is not kept.
func (s *Scheduler) Set(checks []Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	kept := make(map[string]*entry, len(checks))
	for _, c := range checks {
		e := s.entries[c.ID]
		if e == nil || e.check.Key != c.Key || e.check.Every != c.Every || e.check.Timeout != c.Timeout {
			e = &entry{check: c, index: -1, fresh: true, due: now.Add(part(min(spread, c.Every)))}
			heap.Push(&s.queue, e)
		}
		kept[c.ID] = e
	}
	for id, e := range s.entries {
		if kept[id] != e {
			e.removed = true
			if e.index >= 0 {
				heap.Remove(&s.queue, e.index)
			}
		}
	}
	s.entries = kept
	s.poke()
}

// Probe runs the check with that ID as soon as possible. It reports whether there is
// one.
func (s *Scheduler) Probe(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil {
		return false
	}
	if e.index >= 0 {
		e.due = time.Now()
		heap.Fix(&s.queue, e.index)
		s.poke()
	}
	return true
}

// poke makes the loop look at the queue.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// part returns a random part of d.
func part(d time.Duration) time.Duration { return time.Duration(rand.Float64() * float64(d)) }

// Run runs checks until ctx is done. It returns nil when all that it started has
// ended, and an error if a check does not end 3 seconds after that: its goroutine is
// lost. It may be called once.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(s.round(ctx))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
		case c := <-s.done:
			s.finish(c)
		}
	}
	return s.drain(time.NewTimer(patience))
}

// round starts what is due, gives up what runs too long, and returns how long there is
// nothing to do.
func (s *Scheduler) round(ctx context.Context) time.Duration {
	now := time.Now()
	s.beat.Store(int64(now.Sub(s.epoch)))
	for _, e := range s.late(now) {
		s.overdue.Add(1)
		s.sink(e.check.ID, now, result(health.Fail, "the check does not return, %s after its start", e.check.Timeout+overtime))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := beatEvery
	for len(s.queue) > 0 {
		e := s.queue[0]
		if d := e.due.Sub(now); d > 0 {
			g := e.gather()
			wait = min(wait, (d/g+1)*g)
			break
		}
		if len(s.running) >= s.concurrency {
			break // the end of one of them wakes the loop
		}
		heap.Pop(&s.queue)
		e.start = now
		s.running[e] = struct{}{}
		go s.run(ctx, e)
	}
	return wait
}

// late returns the runs that are given up now: their places go to others. Stuck checks
// are not started again before they return.
func (s *Scheduler) late(now time.Time) (given []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.running {
		if now.Sub(e.start) > e.check.Timeout+overtime {
			delete(s.running, e)
			e.stuck = true
			s.stuck++
			if !e.removed {
				given = append(given, e)
			}
		}
	}
	return given
}

// run runs a check once. The loop, or drain, takes its end, so it always returns
// soon after the check has.
func (s *Scheduler) run(ctx context.Context, e *entry) {
	checking, cancel := context.WithTimeout(ctx, e.check.Timeout)
	r := e.check.Run(checking)
	cancel()
	r.Duration = time.Since(e.start)
	s.done <- completion{e, r}
}

// finish takes the end of a run and plans the next one.
func (s *Scheduler) finish(c completion) {
	e := c.e
	s.mu.Lock()
	s.forget(e)
	removed := e.removed
	e.last, e.took, e.state = e.start, c.r.Duration, c.r.State
	s.mu.Unlock()
	if removed {
		return
	}
	s.runs.Add(1)
	reprobe := s.sink(e.check.ID, time.Now(), c.r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.removed { // by Set, while the sink had the result
		e.due = e.next(reprobe)
		heap.Push(&s.queue, e)
	}
}

// forget removes a run from those that are going on. mu is held.
func (s *Scheduler) forget(e *entry) {
	if e.stuck {
		e.stuck = false
		s.stuck--
	}
	delete(s.running, e)
}

// next returns when the check runs next. The second run is anywhere in an interval: the
// first ones were close together, and from then on all are spread evenly.
func (e *entry) next(reprobe bool) time.Time {
	every, from := e.check.Every, e.start
	if from.Sub(e.due) <= e.gather() {
		from = e.due // so that waiting for others does not make the interval longer
	}
	switch {
	case reprobe:
		return time.Now().Add(min(fast, every))
	case e.fresh:
		e.fresh = false
		return from.Add(every/20 + part(every))
	}
	return from.Add(time.Duration(float64(every) * (1 - jitter + 2*jitter*rand.Float64())))
}

// gather returns by how much a run may be late for the sake of others.
func (e *entry) gather() time.Duration { return min(gather, e.check.Every/10) }

// drain waits for the runs that go on, whose context is done.
func (s *Scheduler) drain(timer *time.Timer) error {
	defer timer.Stop()
	for {
		s.mu.Lock()
		left := len(s.running) + s.stuck
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case c := <-s.done:
			s.mu.Lock()
			s.forget(c.e)
			s.mu.Unlock()
		case <-timer.C:
			return fmt.Errorf("stop the checks: %d do not return", left)
		}
	}
}

// Age returns how long ago the loop last went round: a second at most when all is
// well. It grows when the loop, or the sink, is stuck, and before Run: feed a watchdog
// only while it is small.
func (s *Scheduler) Age() time.Duration {
	return time.Since(s.epoch) - time.Duration(s.beat.Load())
}

// Stats are figures of a Scheduler.
type Stats struct {
	// Checks is how many there are, Running how many run now. Stuck ones were given up
	// and have not returned.
	Checks, Running, Stuck int
	// Late is by how much the check is overdue that waits longest: the concurrency is
	// too low, or the machine too busy, if it does not go down again.
	Late time.Duration
	// Runs and Overdue count since NewScheduler: runs that ended, and that were given
	// up.
	Runs, Overdue uint64
}

// Stats returns the figures of now.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Checks: len(s.entries), Running: len(s.running), Stuck: s.stuck, Runs: s.runs.Load(), Overdue: s.overdue.Load()}
	if len(s.queue) > 0 {
		st.Late = max(0, time.Since(s.queue[0].due))
	}
	return st
}

// Status is where a check stands.
type Status struct {
	ID, Kind, Key string
	Every         time.Duration
	// Last is the start of the last run that ended, zero if none has; it took Took and
	// found State.
	Last  time.Time
	Took  time.Duration
	State health.State
	// Running is true during a run; Stuck if that was given up.
	Running, Stuck bool
}

// Statuses returns where the checks stand, in no order.
func (s *Scheduler) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, 0, len(s.entries))
	for _, e := range s.entries {
		_, running := s.running[e]
		all = append(all, Status{ID: e.check.ID, Kind: e.check.Kind, Key: e.check.Key, Every: e.check.Every, Last: e.last, Took: e.took,
			State: e.state, Running: running || e.stuck, Stuck: e.stuck})
	}
	return all
}

// queue is a heap of entries by when they are due.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push adds an entry; it is heap.Push's.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop removes the last entry; it is heap.Pop's.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.index = -1
	return e
}
