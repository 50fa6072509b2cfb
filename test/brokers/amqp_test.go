package brokers

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	client "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"sidecar/internal/output"
	"sidecar/internal/output/amqp"
)

// document returns the document of message i.
func document(i int) string {
	return fmt.Sprintf(`{"version":"1.1","host":"h","short_message":"%d"}`, i)
}

func frames(first, last int) []byte {
	var b []byte
	for i := first; i < last; i++ {
		b = append(append(b, document(i)...), 0)
	}
	return b
}

func connectAMQP(t *testing.T, o amqp.Options) *amqp.AMQP {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	out := amqp.New(o)
	t.Cleanup(out.Abort)
	must(t, out.Connect(within(t, 20*time.Second)))
	return out
}

func send(t *testing.T, out output.Output, first, last int) {
	t.Helper()
	b := frames(first, last)
	must(t, out.Send(within(t, 20*time.Second), b))
	clear(b) // it is the caller's again
}

func cut(t *testing.T, out output.Output, id uint64) {
	t.Helper()
	if done, err := out.Cut(within(t, 20*time.Second), id, false); !done || err != nil {
		t.Fatal(done, err)
	}
}

func event(t *testing.T, out output.Output) output.Event {
	t.Helper()
	select {
	case e := <-out.Events():
		return e
	case <-within(t, 20*time.Second).Done():
		t.Fatal("no event")
		panic("unreachable")
	}
}

func wantConfirmed(t *testing.T, out output.Output, id uint64) {
	t.Helper()
	if e := event(t, out); e.Kind != output.Confirmed || e.Cut != id {
		t.Fatalf("got event %+v, want cut %d confirmed", e, id)
	}
}

func wantFailed(t *testing.T, out output.Output, want string) error {
	t.Helper()
	e := event(t, out)
	if e.Kind != output.Failed || !strings.Contains(e.Err.Error(), want) {
		t.Fatalf("got event %+v, want a failure with %q", e, want)
	}
	return e.Err
}

// dial returns a channel of an independent client.
func (e *engine) dial(t *testing.T) *client.Channel {
	t.Helper()
	conn, err := client.Dial("amqp://guest:guest@" + e.address)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	must(t, err)
	return ch
}

// take takes all messages out of a queue and returns their bodies.
func take(t *testing.T, ch *client.Channel, queue string) (bodies []string) {
	t.Helper()
	for {
		m, ok, err := ch.Get(queue, true)
		must(t, err)
		if !ok {
			return bodies
		}
		if m.DeliveryMode != client.Persistent || m.ContentType != "application/json" {
			t.Fatalf("got %+v", m)
		}
		bodies = append(bodies, string(m.Body))
	}
}

func wantMessages(t *testing.T, ch *client.Channel, queue string, first, last int) {
	t.Helper()
	bodies := take(t, ch, queue)
	if len(bodies) != last-first {
		t.Fatalf("%d messages in %s, want %d", len(bodies), queue, last-first)
	}
	for i, body := range bodies {
		if body != document(first+i) {
			t.Fatalf("message %d is %s", first+i, body)
		}
	}
}

// TestAMQP is what RabbitMQ says to a publisher, by one node for all.
func TestAMQP(t *testing.T) {
	e := rabbitmq(t)
	ch := e.dial(t)
	t.Run("MessagesArriveOnceAndInOrder", func(t *testing.T) {
		out := connectAMQP(t, amqp.Options{Address: e.address, Queue: "plain"})
		cut(t, out, 1)
		wantConfirmed(t, out, 1)
		for i := range 5 {
			send(t, out, i*1000, (i+1)*1000)
			cut(t, out, uint64(i+2))
			wantConfirmed(t, out, uint64(i+2))
		}
		wantMessages(t, ch, "plain", 0, 5000)
	})
	t.Run("Exchange", func(t *testing.T) { exchange(t, e, ch) })
	t.Run("NothingIsRouted", func(t *testing.T) { unrouted(t, e, ch) })
	t.Run("Row20Nack", func(t *testing.T) { nack(t, e, ch) })
	t.Run("ConnectErrors", func(t *testing.T) { refusals(t, e, ch) })
	t.Run("Blocked", func(t *testing.T) { blocked(t, e, ch) })
	t.Run("AbortAtEveryStage", func(t *testing.T) { aborts(t, e) })
}

func exchange(t *testing.T, e *engine, ch *client.Channel) {
	must(t, ch.ExchangeDeclare("logs", client.ExchangeTopic, true, false, false, false, nil))
	_, err := ch.QueueDeclare("bound", true, false, false, false, nil)
	must(t, err, ch.QueueBind("bound", "gelf.#", "logs", false, nil))
	out := connectAMQP(t, amqp.Options{Address: e.address, Exchange: "logs", RoutingKey: "gelf.web"})
	send(t, out, 0, 10)
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	wantMessages(t, ch, "bound", 0, 10)
}

// unrouted: what no queue takes is not confirmed, and the operator is told.
func unrouted(t *testing.T, e *engine, ch *client.Channel) {
	must(t, ch.ExchangeDeclare("empty", client.ExchangeDirect, true, false, false, false, nil))
	out := connectAMQP(t, amqp.Options{Address: e.address, Exchange: "empty", RoutingKey: "nobody"})
	send(t, out, 0, 1)
	err := wantFailed(t, out, `no queue takes a message to exchange "empty" with routing key "nobody": 312 NO_ROUTE`)
	if held, ok := errors.AsType[*output.Held](err); !ok || !held.Operator {
		t.Errorf("got %v", err)
	}
	if err := out.Send(within(t, time.Second), frames(0, 1)); err == nil {
		t.Error("Send after a failure succeeds")
	}
	out.Abort()
	_, err = ch.QueueDeclare("late", true, false, false, false, nil)
	must(t, err, ch.QueueBind("late", "nobody", "empty", false, nil), out.Connect(within(t, 20*time.Second)))
	send(t, out, 0, 10)
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	wantMessages(t, ch, "late", 0, 10)
}

// nack: a queue that is full refuses, and takes everything when there is room.
func nack(t *testing.T, e *engine, ch *client.Channel) {
	_, err := ch.QueueDeclare("full", true, false, false, false, client.Table{"x-max-length": 5, "x-overflow": "reject-publish"})
	must(t, err)
	out := connectAMQP(t, amqp.Options{Address: e.address, RoutingKey: "full"})
	if err := out.Send(within(t, 20*time.Second), frames(0, 100)); err != nil {
		t.Log(err) // told in time
	}
	wantFailed(t, out, "refuses a message (basic.nack)")
	out.Abort()
	if n := len(take(t, ch, "full")); n == 0 || n == 100 {
		t.Errorf("the queue took %d messages", n)
	}
	must(t, out.Connect(within(t, 20*time.Second)))
	send(t, out, 0, 5)
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	wantMessages(t, ch, "full", 0, 5)
}

func refusals(t *testing.T, e *engine, ch *client.Channel) {
	_, err := ch.QueueDeclare("lazy", false, false, false, false, nil)
	must(t, err)
	bad := func(o amqp.Options, operator bool, want string) {
		t.Helper()
		if o.Address == "" {
			o.Address = e.address
		}
		out := amqp.New(o)
		err := out.Connect(within(t, 20*time.Second))
		held, ok := errors.AsType[*output.Held](err)
		if err == nil || !strings.Contains(err.Error(), want) || (ok && held.Operator) != operator {
			t.Errorf("got %v, want %q in it", err, want)
		}
		if err := out.Send(within(t, time.Second), frames(0, 1)); err == nil {
			t.Error("Send without a connection succeeds")
		}
		if _, err := out.Cut(within(t, time.Second), 1, true); err == nil {
			t.Error("Cut without a connection succeeds")
		}
		out.Abort()
	}
	bad(amqp.Options{User: "guest", Password: "wrong"}, true, "username or password not allowed")
	bad(amqp.Options{Vhost: "none"}, true, "(530)")
	bad(amqp.Options{Queue: "lazy"}, true, "inequivalent arg 'durable'")
	bad(amqp.Options{Exchange: "none"}, true, "no exchange 'none'")
	bad(amqp.Options{Address: fmt.Sprint("127.0.0.1:", freePort(t))}, false, "refused")
}

// blocked: while the broker is short of something Send waits, and goes on after it.
func blocked(t *testing.T, e *engine, ch *client.Channel) {
	var said strings.Builder
	out := connectAMQP(t, amqp.Options{Address: e.address, Queue: "blocked", ConfirmTimeout: 2 * time.Second,
		Log: slog.New(slog.NewTextHandler(&said, nil))})
	e.rabbitmqctl(t, "set_disk_free_limit", "1000000GB")
	held := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 20_000 && err == nil; i += 1000 {
			err = out.Send(within(t, 3*time.Minute), frames(i, i+1000))
		}
		held <- err
	}()
	select {
	case err := <-held:
		t.Fatalf("Send ends while the broker takes nothing: %v", err)
	case e := <-out.Events():
		t.Fatalf("event %+v", e)
	case <-time.After(5 * time.Second): // more than ConfirmTimeout
	}
	e.rabbitmqctl(t, "set_disk_free_limit", "1MB")
	must(t, <-held)
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	wantMessages(t, ch, "blocked", 0, 20_000)
	out.Abort()
	if s := said.String(); !strings.Contains(s, "takes no messages for now") || !strings.Contains(s, "low on disk") || !strings.Contains(s, "takes messages again") {
		t.Errorf("said %s", s)
	}
}

// aborts: Abort leaves no event and no goroutine at any stage, and Connect works after it.
func aborts(t *testing.T, e *engine) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	out := connectAMQP(t, amqp.Options{Address: e.address, Queue: "aborted"})
	for name, stage := range map[string]func(){
		"connected": func() {},
		"sent":      func() { send(t, out, 0, 1000) },
		"cut":       func() { send(t, out, 0, 1000); cut(t, out, 1) },
		"confirmed": func() { send(t, out, 0, 10); cut(t, out, 1); wantConfirmed(t, out, 1) },
	} {
		stage()
		out.Abort()
		select {
		case e := <-out.Events():
			t.Errorf("%s: event %+v after Abort", name, e)
		default:
		}
		must(t, out.Connect(within(t, 20*time.Second)))
	}
	out.Abort()
}
