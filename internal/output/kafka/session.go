package kafka

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sidecar/internal/output"
)

// session is one client, and so one producer in the eyes of the brokers.
type session struct {
	client   *kgo.Client // immutable after Connect
	maxBytes int32       // largest batch; immutable after Connect
	timeout  time.Duration
	events   chan<- output.Event
	ctx      context.Context // of every record; ends with the session
	cancel   context.CancelFunc
	wg       sync.WaitGroup // watch

	mu       sync.Mutex
	spans    []*span   // guarded by mu: what is not confirmed, oldest first; the last one grows
	unacked  int       // guarded by mu: records, of all spans
	progress time.Time // guarded by mu: the last acknowledgement, or when there was none to wait for
	err      error     // guarded by mu: why the session is over
	dialErr  error     // guarded by mu: why a broker cannot be reached, nil if it can
}

// span is what is sent between two cuts.
type span struct {
	unacked int
	cut     uint64 // the one at its end, 0 while it grows
}

func newSession(events chan<- output.Event, timeout time.Duration) *session {
	s := &session{events: events, timeout: timeout, maxBytes: defaultMaxBytes, spans: []*span{{}}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// maxBatchBytes is asked for by the client whenever it has to know the limit.
func (s *session) maxBatchBytes(string) int32 { return s.maxBytes }

// OnBrokerConnect implements kgo.HookBrokerConnect: it keeps what to say when nothing
// is acknowledged.
func (s *session) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialErr = err
}

func (s *session) produce(r *kgo.Record) {
	s.mu.Lock()
	if s.unacked == 0 {
		s.progress = time.Now()
	}
	s.unacked++
	current := s.spans[len(s.spans)-1]
	current.unacked++
	s.mu.Unlock()
	s.client.Produce(s.ctx, r, func(_ *kgo.Record, err error) { s.acknowledged(current, err) })
}

// acknowledged is called for one record after the other.
func (s *session) acknowledged(of *span, err error) {
	if err != nil {
		s.fail(err)
		return
	}
	s.mu.Lock()
	s.progress = time.Now()
	s.unacked--
	of.unacked--
	ready := s.takeConfirmed()
	s.mu.Unlock()
	s.confirm(ready)
}

// takeConfirmed removes the spans that are acknowledged with all before them, and
// returns their cuts. s.mu is held.
func (s *session) takeConfirmed() (cuts []uint64) {
	for s.err == nil && s.spans[0].unacked == 0 && s.spans[0].cut != 0 {
		cuts = append(cuts, s.spans[0].cut)
		s.spans = s.spans[1:]
	}
	return cuts
}

func (s *session) cut(id uint64) error {
	s.mu.Lock()
	s.spans[len(s.spans)-1].cut = id
	s.spans = append(s.spans, &span{})
	ready, err := s.takeConfirmed(), s.err
	s.mu.Unlock()
	s.confirm(ready)
	return err
}

func (s *session) confirm(cuts []uint64) {
	for _, id := range cuts {
		s.report(output.Event{Kind: output.Confirmed, Cut: id})
	}
}

// report delivers e unless the session is over.
func (s *session) report(e output.Event) {
	if s.ctx.Err() != nil {
		return // an event that has room would do as well below, and be taken for one of the next session
	}
	select {
	case s.events <- e:
	case <-s.ctx.Done():
	}
}

// fail ends the session because of err, once.
func (s *session) fail(err error) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = fmt.Errorf("produce to Kafka: %w", err)
	}
	err = s.err
	s.mu.Unlock()
	if first {
		s.report(output.Event{Kind: output.Failed, Err: err})
		s.cancel()
	}
}

func (s *session) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// watchLooks is how often watch looks in a time-out.
const watchLooks = 8

// watch ends the session when nothing is acknowledged for the time-out. The client
// would go on for ever, as it cannot know what became of a request without an answer.
func (s *session) watch() {
	tick := time.NewTicker(s.timeout / watchLooks)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			if err := s.stalled(now); err != nil {
				s.fail(err)
				return
			}
		}
	}
}

func (s *session) stalled(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unacked == 0 || now.Sub(s.progress) < s.timeout {
		return nil
	}
	err := fmt.Errorf("nothing is acknowledged for %v", s.timeout)
	if s.dialErr != nil {
		err = fmt.Errorf("%w: %w", err, s.dialErr)
	}
	return err
}

// close returns after everything that belongs to the session has ended.
func (s *session) close() {
	s.cancel()
	s.client.Close()
	s.wg.Wait()
}
