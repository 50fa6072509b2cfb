// Package kafka sends GELF documents to a topic of Kafka, where Graylog's GELF Kafka
// input reads them: one document is the value of one record, as uncompressed JSON, and
// its host is the key, so that the documents of a host stay in order in one partition.
//
// A document is confirmed when all replicas in sync have it (acks=all). The producer
// is idempotent: what the client sends again by itself, to a broker that was restarted
// or whose answer was lost, is stored once.
package kafka

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"sidecar/internal/output"
)

const (
	// maxBufferedBytes bounds what waits for its acknowledgement; Send blocks above it.
	// Twice what the line sends before it waits for a confirmation.
	maxBufferedBytes = 8 << 20
	// linger lets the documents of one Send become one batch.
	linger = 5 * time.Millisecond
	// metadataAge is how soon the client asks again who leads a partition: a new leader
	// should not be waited for longer than it takes to be elected.
	metadataAge = 500 * time.Millisecond
	// recordOverhead is more than what a record adds to its key and value, with the
	// header of a batch (Kafka protocol, "Record Batch": 61 bytes and some varints).
	recordOverhead = 128
	// defaultMaxBytes is max.message.bytes of a broker that does not tell it.
	defaultMaxBytes = 1<<20 + 12

	defaultTimeout         = 10 * time.Second
	defaultDeliveryTimeout = 2 * time.Minute // delivery.timeout.ms of Kafka's own producer
)

// Options say where to send to, and how.
type Options struct {
	// Brokers are host:port of some brokers of the cluster; at least one.
	Brokers []string
	// Topic has to exist: it is not created.
	Topic string
	// TLS, if not nil, makes the configuration of a session, for every broker. Without
	// ServerName the certificate has to be for the name under which the broker is known
	// to the cluster.
	TLS func() (*tls.Config, error)
	// Mechanism is the SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. Empty
	// means SCRAM-SHA-512 with a User, and none without.
	Mechanism string
	// User and Password are for SASL.
	User, Password string
	// Compression of batches: none, gzip, snappy, lz4 or zstd. Empty means snappy.
	Compression string
	// Timeout bounds Connect; 0 means 10 seconds.
	Timeout time.Duration
	// DeliveryTimeout is how long the brokers may acknowledge nothing of what was sent
	// before the output fails; 0 means 2 minutes. Until then the client tries by itself,
	// without duplicates.
	DeliveryTimeout time.Duration
}

// Kafka is a producer for one topic. Its methods are for one goroutine.
type Kafka struct {
	o       Options
	client  []kgo.Opt // of every session
	events  chan output.Event
	session *session // nil while not connected
}

// New returns an output that is not connected. The error is that of options that are
// not known.
func New(o Options) (*Kafka, error) {
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.DeliveryTimeout = cmp.Or(o.DeliveryTimeout, defaultDeliveryTimeout)
	codec, err := compression(o.Compression)
	if err != nil {
		return nil, err
	}
	client := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...), kgo.ClientID("logship"), kgo.DialTimeout(o.Timeout), kgo.DisableClientMetrics(),
		kgo.DefaultProduceTopic(o.Topic), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.StopProducerOnDataLossDetected(),
		kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(linger), kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.MetadataMinAge(metadataAge),
	}
	if o.User != "" || o.Mechanism != "" {
		auth, err := mechanism(&o)
		if err != nil {
			return nil, err
		}
		client = append(client, kgo.SASL(auth))
	}
	// Of a session one confirmation and one failure can be pending; more only wait.
	return &Kafka{o: o, client: client, events: make(chan output.Event, 8)}, nil
}

func compression(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "", "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("unknown compression %q: want none, gzip, snappy, lz4 or zstd", name)
}

func mechanism(o *Options) (sasl.Mechanism, error) {
	switch o.Mechanism {
	case "PLAIN":
		return plain.Auth{User: o.User, Pass: o.Password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: o.User, Pass: o.Password}.AsSha256Mechanism(), nil
	case "", "SCRAM-SHA-512":
		return scram.Auth{User: o.User, Pass: o.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("unknown SASL mechanism %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", o.Mechanism)
}

// Connect begins a session: it reaches a broker, looks for the topic and asks it for
// the size of its largest message. The error is an output.Held for the operator if the
// topic does not exist or the user may not write to it.
func (k *Kafka) Connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.o.Timeout)
	defer cancel()
	s := newSession(k.events, k.o.DeliveryTimeout)
	client := append(slices.Clone(k.client), kgo.WithHooks(s), kgo.ProducerBatchMaxBytesFn(s.maxBatchBytes))
	if k.o.TLS != nil {
		config, err := k.o.TLS()
		if err != nil {
			return fmt.Errorf("TLS for Kafka: %w", err)
		}
		client = append(client, kgo.DialTLSConfig(config))
	}
	var err error
	if s.client, err = kgo.NewClient(client...); err != nil {
		return err
	}
	if err := s.begin(ctx, k.o.Topic); err != nil {
		s.close()
		return err
	}
	s.wg.Go(s.watch)
	k.session = s
	return nil
}

// begin reaches a broker, makes sure that the topic is there, and learns its limit. A
// user who may not see the limit gets the default.
func (s *session) begin(ctx context.Context, topic string) error {
	if err := s.client.Ping(ctx); err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	admin := kadm.NewClient(s.client)
	topics, err := admin.ListTopics(ctx, topic)
	if err == nil {
		err = topics[topic].Err
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.TopicAuthorizationFailed) {
		return &output.Held{Operator: true, Err: fmt.Errorf("look for topic %q: %w", topic, err)}
	} else if err != nil {
		return fmt.Errorf("look for topic %q: %w", topic, err)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil
	}
	for _, c := range configs {
		for _, entry := range c.Configs {
			if n, err := strconv.ParseInt(entry.MaybeValue(), 10, 32); entry.Key == "max.message.bytes" && err == nil {
				s.maxBytes = int32(n)
			}
		}
	}
	return nil
}

// Send gives frames, documents that end in NUL, to the client. It blocks while too
// much is not acknowledged; it ends the session if ctx is done before that. The error
// of a document that the topic would not take is an output.Rejected; those before it
// are sent. After an error nothing since the last confirmed cut is proven.
func (k *Kafka) Send(ctx context.Context, frames []byte) error {
	s := k.session
	if s == nil {
		return net.ErrClosed
	}
	defer context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx)) })()
	frames = bytes.Clone(frames) // the client keeps them until they are acknowledged
	records := make([]kgo.Record, bytes.Count(frames, []byte{0}))
	for i := range records {
		end := bytes.IndexByte(frames, 0)
		r := &records[i]
		r.Value, frames = frames[:end:end], frames[end+1:]
		r.Key = host(r.Value)
		if int64(len(r.Key)+len(r.Value)+recordOverhead) > int64(s.maxBytes) {
			return &output.Rejected{Frame: r.Value, Err: fmt.Errorf("%d bytes are more than the topic takes: max.message.bytes is %d", len(r.Value), s.maxBytes)}
		}
		s.produce(r)
	}
	return s.failed()
}

// host returns the GELF host of a document, as it stands there: with its escapes. nil
// if it is not where package gelf puts it (Graylog rule R1).
func host(document []byte) []byte {
	rest, ok := bytes.CutPrefix(document, []byte(`{"version":"1.1","host":"`))
	if !ok {
		return nil
	}
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case '"':
			return rest[:i:i]
		}
	}
	return nil
}

// Cut asks for an Event of that id when everything sent so far is acknowledged. It
// always returns true or an error; last makes no difference.
func (k *Kafka) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	if k.session == nil {
		return false, net.ErrClosed
	}
	return true, k.session.cut(id)
}

// Events delivers confirmations and failures. It must be received from.
func (k *Kafka) Events() <-chan output.Event { return k.events }

// Abort ends the session at once. What was not confirmed is unproven; Connect begins
// another, which does not know what this one has sent.
func (k *Kafka) Abort() {
	if k.session != nil {
		k.session.close()
		k.session = nil
	}
	for len(k.events) > 0 {
		<-k.events
	}
}
