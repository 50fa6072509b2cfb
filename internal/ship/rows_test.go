package ship

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/output"
	"sidecar/internal/parse"
)

// The tests named TestRow are rows of the fault matrix, docs/reliability.md.

// server is what a fleet ships to. It is away for some time, in which it refuses
// connections.
type server struct {
	mu         sync.Mutex
	away, back time.Time       // guarded by mu
	attempts   []time.Time     // guarded by mu: refused and accepted ones
	passed     []time.Duration // guarded by mu: after back, the first message of each line
}

func (s *server) up() bool {
	now := time.Now()
	return now.Before(s.away) || !now.Before(s.back)
}

// member is the output of one line of a fleet.
type member struct {
	server *server
	events chan output.Event
	since  time.Time       // connected
	passed bool            // a message came after the outage
	unread []string        // event IDs that the server loses if it dies now
	read   map[string]bool // those that it has confirmed
	again  int             // messages that came once more
	seen   map[string]bool
}

func newMember(s *server) *member {
	return &member{server: s, events: make(chan output.Event, 4), read: map[string]bool{}, seen: map[string]bool{}}
}

func (m *member) Connect(context.Context) error {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.server.attempts = append(m.server.attempts, time.Now())
	if !m.server.up() {
		return errors.New("refused")
	}
	m.since = time.Now()
	return nil
}

// alive reports whether the connection is not one from before the outage.
func (m *member) alive() bool {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	return m.server.up() && (m.since.Before(m.server.away) == time.Now().Before(m.server.away))
}

func (m *member) Send(_ context.Context, frames []byte) error {
	if !m.alive() {
		return errors.New("reset")
	}
	for _, id := range regexp.MustCompile(`"_event_id":"([^"]*)"`).FindAllSubmatch(frames, -1) {
		m.unread = append(m.unread, string(id[1]))
		if m.seen[string(id[1])] {
			m.again++
		}
		m.seen[string(id[1])] = true
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if !m.passed && time.Now().After(m.server.back) {
		m.passed = true
		m.server.passed = append(m.server.passed, time.Since(m.server.back))
	}
	return nil
}

func (m *member) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	if !m.alive() {
		return false, errors.New("reset")
	}
	for _, id := range m.unread {
		m.read[id] = true
	}
	m.unread = nil
	m.events <- output.Event{Kind: output.Confirmed, Cut: id}
	return true, nil
}

func (m *member) Events() <-chan output.Event { return m.events }
func (m *member) Abort() {
	m.unread = nil
	for len(m.events) > 0 {
		<-m.events
	}
}

// TestRow31Fleet: 60 lines lose their server for 20 s, with what it has not read. They
// knock spread out, and are all back within 10 s.
func TestRow31Fleet(t *testing.T) {
	const lines, outage = 60, 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		s := &server{away: time.Now().Add(9 * time.Second)}
		s.back = s.away.Add(outage)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var sources []*memory
		var members []*member
		for range lines {
			source, m := newMemory(0), newMember(s)
			sources, members = append(sources, source), append(members, m)
			line := New(Options{Sources: []Source{source}, Output: m, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(1),
				Pipeline: Pipeline{Parser: parse.New(parse.Options{}), GELF: gelf.Options{Host: "h"}}})
			all.Go(func() {
				if err := line.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() { grow(ctx, source) })
		}
		time.Sleep(time.Until(s.back) + 15*time.Second) // of the test's clock
		cancel()
		all.Wait()
		again := 0
		for i, m := range members {
			again += m.again
			if len(m.read) != sources[i].n || m.again > 60 {
				t.Errorf("line %d: %d messages of %d, %d came again", i, len(m.read), sources[i].n, m.again)
			}
		}
		if len(s.passed) != lines || slices.Max(s.passed) > 10*time.Second || again == 0 {
			t.Fatalf("%d of %d lines are back, after %v; %d messages came again", len(s.passed), lines, s.passed, again)
		}
		// The first attempts come with the end of the connections; then they spread.
		peak := crowd(s.attempts, s.away.Add(5*time.Second), 100*time.Millisecond)
		if peak > 12 {
			t.Errorf("%d attempts within 100 ms", peak)
		}
		t.Logf("row 31: lost 0, duplicated %d, recovered %.1f s; at most %d attempts within 100 ms", again, slices.Max(s.passed).Seconds(), peak)
	})
}

// grow adds an entry every 100 ms until ctx is done.
func grow(ctx context.Context, source *memory) {
	defer source.end()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			source.grow(1)
		case <-ctx.Done():
			return
		}
	}
}

// crowd returns the most times after begin that lie within a span.
func crowd(times []time.Time, begin time.Time, span time.Duration) (most int) {
	times = slices.DeleteFunc(slices.Clone(times), func(at time.Time) bool { return at.Before(begin) })
	slices.SortFunc(times, time.Time.Compare)
	for i, first := 0, 0; i < len(times); i++ {
		for times[i].Sub(times[first]) >= span {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
