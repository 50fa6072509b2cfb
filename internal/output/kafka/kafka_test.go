package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"sidecar/internal/output"
	"sidecar/internal/output/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "gelf"

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// cluster starts a fake of Kafka with one broker and a topic of three partitions.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func options(c *kfake.Cluster) kafka.Options {
	return kafka.Options{Brokers: c.ListenAddrs(), Topic: topic}
}

func newKafka(t *testing.T, o kafka.Options) *kafka.Kafka {
	t.Helper()
	out, err := kafka.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Abort)
	return out
}

func connect(t *testing.T, o kafka.Options) *kafka.Kafka {
	t.Helper()
	out := newKafka(t, o)
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	return out
}

const hosts = 5

// document returns the document of message i, of one of the hosts.
func document(i int) string {
	return fmt.Sprintf(`{"version":"1.1","host":"host\"%d","short_message":"%d"}`, i%hosts, i)
}

func frames(first, last int) []byte {
	var b []byte
	for i := first; i < last; i++ {
		b = append(append(b, document(i)...), 0)
	}
	return b
}

func send(t *testing.T, out *kafka.Kafka, first, last int) {
	t.Helper()
	b := frames(first, last)
	if err := out.Send(within(t), b); err != nil {
		t.Fatal(err)
	}
	clear(b) // it is the caller's again
}

func cut(t *testing.T, out *kafka.Kafka, id uint64) {
	t.Helper()
	if done, err := out.Cut(within(t), id, false); !done || err != nil {
		t.Fatal(done, err)
	}
}

func event(t *testing.T, out *kafka.Kafka) output.Event {
	t.Helper()
	select {
	case e := <-out.Events():
		return e
	case <-within(t).Done():
		t.Fatal("no event")
		panic("unreachable")
	}
}

func wantConfirmed(t *testing.T, out *kafka.Kafka, id uint64) {
	t.Helper()
	if e := event(t, out); e.Kind != output.Confirmed || e.Cut != id {
		t.Fatalf("got event %+v, want cut %d confirmed", e, id)
	}
}

func wantFailed(t *testing.T, out *kafka.Kafka, want string) {
	t.Helper()
	if e := event(t, out); e.Kind != output.Failed || !strings.Contains(e.Err.Error(), want) {
		t.Fatalf("got event %+v, want a failure with %q", e, want)
	}
}

// consume returns n records of the topic, in the order of each partition.
func consume(t *testing.T, c *kfake.Cluster, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(within(t))
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d records of %d: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// wantMessages consumes the messages 0 to n-1, each once, those of a host in one
// partition and in order.
func wantMessages(t *testing.T, c *kfake.Cluster, n int, opts ...kgo.Opt) {
	t.Helper()
	next, partition := map[int]int{}, map[int]int32{}
	records := consume(t, c, n, opts...)
	for _, r := range records {
		var host, i int
		if _, err := fmt.Sscanf(string(r.Value), `{"version":"1.1","host":"host\"%d","short_message":"%d"}`, &host, &i); err != nil {
			t.Fatalf("%q: %v", r.Value, err)
		}
		if string(r.Value) != document(i) || string(r.Key) != fmt.Sprintf(`host\"%d`, host) {
			t.Fatalf("record %q: %q", r.Key, r.Value)
		}
		if i != next[host]*hosts+host {
			t.Fatalf("message %d of host %d, want %d", i, host, next[host]*hosts+host)
		}
		if p, ok := partition[host]; ok && p != r.Partition {
			t.Fatalf("host %d is in partitions %d and %d", host, p, r.Partition)
		}
		next[host]++
		partition[host] = r.Partition
	}
	if len(records) != n {
		t.Fatalf("%d records, want %d", len(records), n)
	}
}

func TestMessagesArriveOnceAndInOrder(t *testing.T) {
	for _, compression := range []string{"", "none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run("compression "+compression, func(t *testing.T) {
			c := cluster(t)
			o := options(c)
			o.Compression = compression
			out := connect(t, o)
			for i := range 10 {
				send(t, out, i*200, (i+1)*200)
				cut(t, out, uint64(i+1))
				wantConfirmed(t, out, uint64(i+1))
			}
			out.Abort()
			wantMessages(t, c, 2000)
		})
	}
}

// Documents without the head that package gelf writes have no key, and arrive.
func TestDocumentWithoutAHost(t *testing.T) {
	c := cluster(t)
	out := connect(t, options(c))
	for _, d := range []string{`{}`, `{"version":"1.1","host":"a`, `{"version":"1.1","host":"a\`, `{"version":"1.1","host":"a\"`} {
		if err := out.Send(within(t), append([]byte(d), 0)); err != nil {
			t.Fatal(err)
		}
		cut(t, out, 1)
		wantConfirmed(t, out, 1)
	}
	for _, r := range consume(t, c, 4) {
		if r.Key != nil {
			t.Errorf("%s has key %q", r.Value, r.Key)
		}
	}
}

// A cut is confirmed by the acknowledgement of everything before it, and not of what
// comes after; nothing to confirm is confirmed at once.
func TestCutWaitsForItsAcknowledgements(t *testing.T) {
	c := cluster(t)
	out := connect(t, options(c))
	cut(t, out, 1)
	wantConfirmed(t, out, 1)

	seen, release := make(chan struct{}, 1), make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.DropControl()
		seen <- struct{}{}
		<-release
		return nil, nil, false
	})
	send(t, out, 0, 10)
	cut(t, out, 2)
	<-seen
	send(t, out, 10, 20)
	cut(t, out, 3)
	select {
	case e := <-out.Events():
		t.Fatalf("event %+v before the acknowledgement", e)
	default:
	}
	close(release)
	wantConfirmed(t, out, 2)
	wantConfirmed(t, out, 3)
	out.Abort()
	wantMessages(t, c, 20)
}

// The client sends again by itself, and the broker keeps one copy: whether the request
// was refused, or done and its answer lost.
func TestRow20NoDuplicatesWithinASession(t *testing.T) {
	for name, fault := range map[string]func(*kfake.Cluster){
		"not the leader": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 2})
		},
		"not enough replicas": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: 2})
		},
		"stored, then timed out": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 2})
		},
		"stored on too few": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: 2})
		},
		"connection closed": func(c *kfake.Cluster) {
			for range 2 {
				c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
					return nil, errors.New("closed"), true
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t)
			out := connect(t, options(c))
			send(t, out, 0, 500)
			cut(t, out, 1)
			wantConfirmed(t, out, 1)
			fault(c)
			for i := 1; i < 4; i++ {
				send(t, out, i*500, (i+1)*500)
			}
			cut(t, out, 2)
			wantConfirmed(t, out, 2)
			out.Abort()
			wantMessages(t, c, 2000)
		})
	}
}

// What the client cannot mend is a failure: of the cut, of Send, and of every Cut after it.
func TestRefusalFails(t *testing.T) {
	c := cluster(t)
	out := connect(t, options(c))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	send(t, out, 0, 10)
	cut(t, out, 1)
	wantFailed(t, out, "TOPIC_AUTHORIZATION_FAILED")
	if err := out.Send(within(t), frames(10, 11)); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("Send: got %v", err)
	}
	if _, err := out.Cut(within(t), 2, true); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("Cut: got %v", err)
	}
	select {
	case e := <-out.Events():
		t.Errorf("another event: %+v", e)
	default:
	}
}

// A broker that takes requests and answers nothing ends in a failure, which says so.
func TestSilentBrokerFails(t *testing.T) {
	c := cluster(t)
	o := options(c)
	o.DeliveryTimeout = 300 * time.Millisecond
	out := connect(t, o)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, nil, true
	})
	send(t, out, 0, 10)
	wantFailed(t, out, "nothing is acknowledged for 300ms")

	// One that is away is named.
	o.DeliveryTimeout = 2 * time.Second
	out = connect(t, o)
	c.Close()
	send(t, out, 0, 10)
	wantFailed(t, out, "refused")
}

// A document that the topic does not take is told; its limit is the broker's, and the
// largest that fits is taken.
func TestDocumentThatIsTooLarge(t *testing.T) {
	c := cluster(t)
	const limit = 4000
	if err := c.CreateTopic("small", 1, map[string]string{"max.message.bytes": fmt.Sprint(limit)}); err != nil {
		t.Fatal(err)
	}
	o := options(c)
	o.Topic, o.Compression = "small", "none"
	out := connect(t, o)
	with := func(n int) []byte {
		head, tail := `{"version":"1.1","host":"h","short_message":"`, `"}`
		return []byte(head + strings.Repeat("x", n-len(head)-len(tail)) + tail)
	}
	var most int
	for n := limit + 1; ; n-- {
		err := out.Send(within(t), slices.Concat(with(1000), []byte{0}, with(n), []byte{0}))
		if err == nil {
			most = n
			break
		}
		var rejected *output.Rejected
		if !errors.As(err, &rejected) || string(rejected.Frame) != string(with(n)) || !strings.Contains(err.Error(), "max.message.bytes is 4000") {
			t.Fatalf("%d bytes: got %v", n, err)
		}
	}
	if most < limit-200 {
		t.Errorf("the largest document that is taken has %d bytes", most)
	}
	// Many small ones are more than a batch.
	for range 10 {
		if err := out.Send(within(t), frames(0, 500)); err != nil {
			t.Fatal(err)
		}
	}
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
}

func TestConnectErrors(t *testing.T) {
	c := cluster(t)
	o := options(c)
	bad := func(topic string, operator bool, want string) {
		t.Helper()
		o.Topic = topic
		out := newKafka(t, o)
		err := out.Connect(within(t))
		var held *output.Held
		if err == nil || !strings.Contains(err.Error(), want) || (errors.As(err, &held) && held.Operator) != operator {
			t.Errorf("got %v, want %q in it", err, want)
		}
		if err := out.Send(within(t), frames(0, 1)); err == nil {
			t.Error("Send without a connection succeeds")
		}
		if _, err := out.Cut(within(t), 1, true); err == nil {
			t.Error("Cut without a connection succeeds")
		}
	}
	bad("none", true, `look for topic "none": UNKNOWN_TOPIC_OR_PARTITION`)
	c.Close()
	bad(topic, false, "refused")
}

func TestUnknownOptions(t *testing.T) {
	if _, err := kafka.New(kafka.Options{Compression: "brotli"}); err == nil || !strings.Contains(err.Error(), `unknown compression "brotli"`) {
		t.Errorf("got %v", err)
	}
	if _, err := kafka.New(kafka.Options{Mechanism: "GSSAPI"}); err == nil || !strings.Contains(err.Error(), `unknown SASL mechanism "GSSAPI"`) {
		t.Errorf("got %v", err)
	}
}

// Send blocks when too much is not acknowledged, and its context ends that.
func TestSendWaitsForAcknowledgements(t *testing.T) {
	c := cluster(t)
	out := connect(t, options(c))
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		<-release
		return nil, nil, false
	})
	ctx, cancel := context.WithCancel(within(t))
	sent := make(chan int, 1000)
	failed := make(chan error, 1)
	large := []byte(strings.Repeat("x", 100<<10) + "\x00")
	go func() {
		for i := 0; ; i++ {
			if err := out.Send(ctx, large); err != nil {
				failed <- err
				return
			}
			sent <- i
		}
	}()
	last := 0
	for quiet := false; !quiet; {
		select {
		case last = <-sent:
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	if bytes := (last + 1) * len(large); bytes < 7<<20 || bytes > 8<<20 {
		t.Errorf("%d bytes are taken without an acknowledgement", bytes)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	out.Abort()
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	send(t, out, 0, 10)
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
}

// Abort at every stage leaves no goroutine (see TestMain) and no event.
func TestAbortAtEveryStage(t *testing.T) {
	c := cluster(t)
	for name, stage := range map[string]func(*kafka.Kafka){
		"connected": func(*kafka.Kafka) {},
		"sent":      func(out *kafka.Kafka) { send(t, out, 0, 1000) },
		"cut":       func(out *kafka.Kafka) { send(t, out, 0, 1000); cut(t, out, 1) },
		"last cut": func(out *kafka.Kafka) {
			if _, err := out.Cut(within(t), 1, true); err != nil {
				t.Fatal(err)
			}
		},
		"failed": func(out *kafka.Kafka) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed})
			send(t, out, 0, 10)
			cut(t, out, 1)
			wantFailed(t, out, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := connect(t, options(c))
			for range 2 {
				stage(out)
				out.Abort()
				select {
				case e := <-out.Events():
					t.Errorf("event %+v after Abort", e)
				default:
				}
				if err := out.Connect(within(t)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
