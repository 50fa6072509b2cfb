// Package amqp publishes GELF documents to RabbitMQ (AMQP 0-9-1), where Graylog's GELF
// AMQP input takes them from a queue: one document is the body of one message, as
// uncompressed JSON.
//
// Messages are persistent and mandatory. A document is confirmed when the broker
// confirms its message (RabbitMQ "Publisher Confirms"): every durable queue that it was
// routed to has it on disk. One that no queue takes is sent back, and holds the rest:
// there is something for the operator to set up.
package amqp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"sidecar/internal/output"
)

const (
	// maxUnconfirmed bounds the messages that wait for their confirmation; Send blocks
	// above it.
	maxUnconfirmed = 8192
	// heartbeat is what is asked of the broker: a peer that is silent for one and a
	// half of it is taken for dead (AMQP 0-9-1 section 4.2.7).
	heartbeat = 10 * time.Second
	frameSize = 128 << 10 // RabbitMQ's own limit

	defaultTimeout        = 10 * time.Second
	defaultConfirmTimeout = 2 * time.Minute
)

// Options say where to publish to, and how.
type Options struct {
	// Address is host:port.
	Address string
	// TLS, if not nil, makes the configuration of each connection, with ServerName set.
	TLS func() (*tls.Config, error)
	// Vhost is the virtual host; empty means "/".
	Vhost string
	// User and Password are for SASL PLAIN; empty means guest, whom RabbitMQ lets in
	// from its own machine only.
	User, Password string
	// Queue, if not empty, is declared: a durable queue, as Graylog's input declares it.
	// Messages go straight to it.
	Queue string
	// Exchange and RoutingKey say where messages go without a Queue. The exchange has to
	// exist, with bindings to durable queues.
	Exchange, RoutingKey string
	// Timeout bounds Connect; 0 means 10 seconds.
	Timeout time.Duration
	// ConfirmTimeout is how long the broker may confirm nothing of what was published
	// before the output fails; 0 means 2 minutes. It does not run while the broker
	// blocks publishers.
	ConfirmTimeout time.Duration
	// Log is told when the broker blocks publishers, and when it ends that.
	Log *slog.Logger
}

// AMQP is a publisher. Its methods are for one goroutine.
type AMQP struct {
	o       Options
	events  chan output.Event
	session *session // nil while not connected
}

// New returns an output that is not connected.
func New(o Options) *AMQP {
	o.Vhost, o.User, o.Password = cmp.Or(o.Vhost, "/"), cmp.Or(o.User, "guest"), cmp.Or(o.Password, "guest")
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.ConfirmTimeout = cmp.Or(o.ConfirmTimeout, defaultConfirmTimeout)
	if o.Queue != "" {
		o.Exchange, o.RoutingKey = "", o.Queue // the default exchange knows every queue by its name
	}
	// Of a session one confirmation and one failure can be pending; more only wait.
	return &AMQP{o: o, events: make(chan output.Event, 8)}
}

// Connect opens a connection and a channel, and declares the queue or looks for the
// exchange. The error is an output.Held for the operator if the broker refuses that, or
// the user.
func (a *AMQP) Connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.o.Timeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", a.o.Address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", a.o.Address, err)
	}
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	s := newSession(raw, a.events, &a.o)
	if err := s.begin(ctx, &a.o); err != nil {
		s.close()
		return a.explain(err)
	}
	s.wg.Go(s.watch)
	a.session = s
	return nil
}

// explain tells what an operator has to change from what passes by itself.
func (a *AMQP) explain(err error) error {
	err = fmt.Errorf("connect to %s: %w", a.o.Address, err)
	refused, ok := errors.AsType[*amqp.Error](err)
	if !ok {
		return err
	}
	switch refused.Code {
	case amqp.AccessRefused, amqp.NotFound, amqp.ResourceLocked, amqp.PreconditionFailed, amqp.NotAllowed:
		return &output.Held{Operator: true, Err: err}
	}
	return err
}

// Send publishes frames, documents that end in NUL. It blocks while too many are not
// confirmed or the broker blocks publishers; it ends the session if ctx is done before
// that. After an error nothing since the last confirmed cut is proven.
func (a *AMQP) Send(ctx context.Context, frames []byte) error {
	s := a.session
	if s == nil {
		return net.ErrClosed
	}
	defer context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx)) })()
	for len(frames) > 0 {
		end := bytes.IndexByte(frames, 0)
		if err := s.reserve(); err != nil {
			return err
		}
		if err := s.publish(frames[:end]); err != nil {
			return err
		}
		frames = frames[end+1:]
	}
	return nil
}

// Cut asks for an Event of that id when everything sent so far is confirmed. It always
// returns true or an error; last makes no difference.
func (a *AMQP) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	if a.session == nil {
		return false, net.ErrClosed
	}
	return true, a.session.cut(id)
}

// Events delivers confirmations and failures. It must be received from.
func (a *AMQP) Events() <-chan output.Event { return a.events }

// Abort closes the connection at once. What was not confirmed is unproven; Connect
// starts again.
func (a *AMQP) Abort() {
	if a.session != nil {
		a.session.close()
		a.session = nil
	}
	for len(a.events) > 0 {
		<-a.events
	}
}
