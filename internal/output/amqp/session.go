package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"sidecar/internal/output"
)

// session is one connection with its channel. Confirmations come in the order of
// publishing: the client puts them into it.
type session struct {
	raw                  net.Conn // below TLS
	address              string   // for errors
	channel              *amqp.Channel
	exchange, routingKey string
	timeout              time.Duration
	log                  *slog.Logger
	events               chan<- output.Event
	ctx                  context.Context // ends with the session
	cancel               context.CancelFunc
	wg                   sync.WaitGroup // watch
	changed              chan struct{}  // capacity 1: Send may go on

	// Each is received from until it is closed: the client waits for that.
	closed   chan *amqp.Error
	confirms chan amqp.Confirmation
	returns  chan amqp.Return
	blocked  chan amqp.Blocking

	mu        sync.Mutex
	published uint64    // guarded by mu
	confirmed uint64    // guarded by mu
	cuts      []cut     // guarded by mu: oldest first
	progress  time.Time // guarded by mu: the last confirmation, or when there was none to wait for
	blocking  bool      // guarded by mu: the broker takes nothing
	err       error     // guarded by mu: why the session is over
}

// cut is confirmed when so many messages are.
type cut struct{ id, published uint64 }

func newSession(raw net.Conn, events chan<- output.Event, o *Options) *session {
	s := &session{raw: raw, address: o.Address, exchange: o.Exchange, routingKey: o.RoutingKey, timeout: o.ConfirmTimeout,
		log: o.Log, events: events, changed: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// secure returns what to speak AMQP on: the connection, or TLS on it.
func (s *session) secure(ctx context.Context, config func() (*tls.Config, error)) (net.Conn, error) {
	if config == nil {
		return s.raw, nil
	}
	conf, err := config()
	if err != nil {
		return nil, err
	}
	conn := tls.Client(s.raw, conf)
	return conn, conn.HandshakeContext(ctx)
}

// begin does everything that needs answers of the broker.
func (s *session) begin(ctx context.Context, o *Options) error {
	transport, err := s.secure(ctx, o.TLS)
	if err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	conn, err := amqp.Open(transport, amqp.Config{
		SASL:  []amqp.Authentication{&amqp.PlainAuth{Username: o.User, Password: o.Password}},
		Vhost: o.Vhost, Heartbeat: heartbeat, FrameSize: frameSize, Locale: "en_US",
		Properties: amqp.Table{"product": "logship", "connection_name": "logship"},
	})
	if err != nil {
		return err
	}
	if s.channel, err = conn.Channel(); err != nil {
		return err
	}
	if o.Queue != "" {
		_, err = s.channel.QueueDeclare(o.Queue, true, false, false, false, nil)
	} else if o.Exchange != "" {
		err = s.channel.ExchangeDeclarePassive(o.Exchange, amqp.ExchangeDirect, true, false, false, false, nil)
	}
	if err != nil {
		return err
	}
	if err := s.channel.Confirm(false); err != nil {
		return err
	}
	// Without a buffer a return is received before the confirmation that follows it.
	s.returns = s.channel.NotifyReturn(make(chan amqp.Return))
	s.confirms = s.channel.NotifyPublish(make(chan amqp.Confirmation))
	s.closed = s.channel.NotifyClose(make(chan *amqp.Error, 1))
	s.blocked = conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	return nil
}

// reserve waits until one more message may be published.
func (s *session) reserve() error {
	for {
		s.mu.Lock()
		err := s.err
		free := !s.blocking && s.published-s.confirmed < maxUnconfirmed
		if err == nil && free {
			if s.published == s.confirmed {
				s.progress = time.Now()
			}
			s.published++
		}
		s.mu.Unlock()
		if err != nil || free {
			return err
		}
		select {
		case <-s.changed:
		case <-s.ctx.Done():
		}
	}
}

func (s *session) publish(document []byte) error {
	err := s.channel.PublishWithContext(s.ctx, s.exchange, s.routingKey, true, false,
		amqp.Publishing{ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: document})
	if err != nil {
		s.fail(err)
		return s.failed()
	}
	return nil
}

func (s *session) cut(id uint64) error {
	s.mu.Lock()
	s.cuts = append(s.cuts, cut{id, s.published})
	ready, err := s.takeConfirmed(), s.err
	s.mu.Unlock()
	s.confirm(ready)
	return err
}

// takeConfirmed removes the cuts that are confirmed and returns them. s.mu is held.
func (s *session) takeConfirmed() (ready []cut) {
	for s.err == nil && len(s.cuts) > 0 && s.cuts[0].published <= s.confirmed {
		ready = append(ready, s.cuts[0])
		s.cuts = s.cuts[1:]
	}
	return ready
}

func (s *session) confirm(cuts []cut) {
	for _, c := range cuts {
		s.report(output.Event{Kind: output.Confirmed, Cut: c.id})
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

// watchLooks is how often watch looks in a time-out.
const watchLooks = 8

// watch receives what the broker has to say until the connection is closed.
func (s *session) watch() {
	tick := time.NewTicker(s.timeout / watchLooks)
	defer tick.Stop()
	for s.closed != nil || s.confirms != nil || s.returns != nil || s.blocked != nil {
		select {
		case err, ok := <-s.closed:
			if !ok {
				s.closed = nil
				s.fail(amqp.ErrClosed)
			} else {
				s.fail(err)
			}
		case c, ok := <-s.confirms:
			if !ok {
				s.confirms = nil
			} else if !c.Ack {
				s.fail(errors.New("the broker refuses a message (basic.nack)"))
			} else {
				s.acknowledged()
			}
		case r, ok := <-s.returns:
			if !ok {
				s.returns = nil
			} else {
				s.fail(&output.Held{Operator: true, Err: fmt.Errorf("no queue takes a message to exchange %q with routing key %q: %d %s",
					r.Exchange, r.RoutingKey, r.ReplyCode, r.ReplyText)})
			}
		case b, ok := <-s.blocked:
			if !ok {
				s.blocked = nil
			} else {
				s.block(b)
			}
		case now := <-tick.C:
			if s.stalled(now) {
				s.fail(fmt.Errorf("nothing is confirmed for %v", s.timeout))
			}
		}
	}
}

func (s *session) acknowledged() {
	s.mu.Lock()
	s.confirmed++
	s.progress = time.Now()
	ready := s.takeConfirmed()
	s.mu.Unlock()
	s.wake()
	s.confirm(ready)
}

// block notes that the broker blocks publishers because of memory or disk space
// (RabbitMQ "Blocked Connection Notifications"), or ends it.
func (s *session) block(b amqp.Blocking) {
	s.mu.Lock()
	s.blocking, s.progress = b.Active, time.Now()
	s.mu.Unlock()
	if b.Active {
		s.log.Warn("the broker takes no messages for now, wait", "reason", b.Reason)
	} else {
		s.log.Info("the broker takes messages again")
	}
	s.wake()
}

func (s *session) stalled(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.blocking && s.published > s.confirmed && now.Sub(s.progress) >= s.timeout
}

// wake lets Send look again.
func (s *session) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// fail ends the session because of err, once.
func (s *session) fail(err error) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = fmt.Errorf("publish to %s: %w", s.address, err)
	}
	err = s.err
	s.mu.Unlock()
	if first {
		s.report(output.Event{Kind: output.Failed, Err: err})
		s.cancel()
		s.raw.Close()
	}
}

func (s *session) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// close returns after everything that belongs to the session has ended.
func (s *session) close() {
	s.cancel()
	s.raw.Close()
	s.wg.Wait()
}
