package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/gelfin"
	"sidecar/internal/record"
	"sidecar/internal/settings"
	"sidecar/internal/ship"
	"sidecar/internal/spool"
	"sidecar/internal/syslog"
)

// SyslogInput is a table [[input.syslog]]. What is not set has the default of
// syslog.Options.
type SyslogInput struct {
	Listen                   string        `toml:"listen"`
	Framing                  string        `toml:"framing"`
	Timezone                 string        `toml:"timezone"`
	MaxMessage               settings.Size `toml:"max_message"`
	MaxConnections           int           `toml:"max_connections"`
	MaxConnectionsPerAddress int           `toml:"max_connections_per_address"`
	TLS                      struct {
		Cert     string          `toml:"cert"`
		Key      settings.Secret `toml:"key"`
		ClientCA string          `toml:"client_ca"`
	} `toml:"tls"`
}

// syslogOptions returns the settings of input number i, without what belongs to a run.
func (c *Config) syslogOptions(e *settings.Effective, i int) (o syslog.Options, err error) {
	in := &c.Input.Syslog[i]
	table := fmt.Sprintf("input.syslog[%d]", i)
	o = syslog.Options{Listen: in.Listen, MaxMessageBytes: int(in.MaxMessage),
		MaxConnections: in.MaxConnections, MaxConnectionsPerAddress: in.MaxConnectionsPerAddress}
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, e.Errorf(table+"."+key, format, args...)) }
	if err := syslog.CheckListen(in.Listen); in.Listen == "" {
		bad("listen", `say where: "udp://127.0.0.1:514", "tcp://…", "tls://…", "unix:/path", "unixgram:/path" or "systemd:NAME"`)
	} else if err != nil {
		bad("listen", "%v", err)
	}
	if strings.HasPrefix(in.Listen, "tls:") && in.TLS.Cert == "" {
		bad("tls.cert", "a listener for TLS needs a certificate and a key: set tls = { cert = \"/path\", key = \"file:/path\" }")
	}
	if in.Framing != "" {
		if o.Framing, err = syslog.ParseFraming(in.Framing); err != nil {
			bad("framing", "%v", err)
		}
	}
	if _, err := time.LoadLocation(in.Timezone); err != nil {
		bad("timezone", "%q is not a time zone of this machine: want UTC, Local or a name such as Europe/Warsaw", in.Timezone)
	}
	if in.MaxMessage < 0 || in.MaxMessage > spool.MaxMessageBytes {
		bad("max_message", "want at most 1MiB")
	}
	if in.TLS.Cert != "" || !in.TLS.Key.IsZero() || in.TLS.ClientCA != "" {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if o.TLS.Certificates, err = certificates(e, table+".tls", in.TLS.Cert, in.TLS.Key); err != nil {
			errs = append(errs, err)
		}
		if in.TLS.ClientCA != "" {
			o.TLS.ClientAuth = tls.RequireAndVerifyClientCert
			if o.TLS.ClientCAs, err = authorities(e, table+".tls.client_ca", in.TLS.ClientCA); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return o, errors.Join(errs...)
}

// checkSyslog returns what is wrong with the inputs.
func (c *Config) checkSyslog(e *settings.Effective) (errs []error) {
	for i := range c.Input.Syslog {
		_, err := c.syslogOptions(e, i)
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			errs = append(errs, joined.Unwrap()...)
		}
	}
	return errs
}

// syslogInputs opens the listeners. They store in in.spool.
func (r *runner) syslogInputs(in *inputs, gaps *ship.Gaps) error {
	for i := range r.Input.Syslog {
		o, err := r.syslogOptions(r.effective, i)
		if err != nil {
			return err
		}
		o.Inherited, o.Log, o.Budget, o.KernelDrops = in.inherited, r.log, in.budget, gaps.Drops
		o.Sink = zoned{in.spool, zoneTag(r.Input.Syslog[i].Timezone)}
		o.OnDiscard = func(d syslog.Discard) {
			gaps.Add(ship.Gap{Reason: "syslog_" + d.Reason, Text: "syslog datagrams came faster than they could be stored", Entries: d.Messages,
				Unit: d.Sender, Keep: true, Socket: d.Socket, Drops: d.Drops})
		}
		l, err := syslog.Listen(o)
		if err != nil {
			return r.explainListen(fmt.Sprintf("input.syslog[%d].listen", i), err)
		}
		r.log.Info("listen", "input", "syslog", "listen", o.Listen, "addr", l.Addrs())
		in.syslog = append(in.syslog, l)
		in.closers = append(in.closers, l.Close)
		in.intake = append(in.intake, l.Run)
	}
	return nil
}

// zoned is a spool that notes with every message the zone of its listener.
type zoned struct {
	*spool.Spool
	tag []byte
}

// zoneTag returns the source of messages whose times are in a zone, "" for the local
// one. It is stored, so that a change of the configuration does not change what was
// received before.
func zoneTag(zone string) []byte {
	if zone == "" {
		return []byte("syslog")
	}
	return []byte("syslog/" + zone)
}

// Append implements syslog.Sink.
func (z zoned) Append(ctx context.Context, msgs []spool.Message) error {
	z.label(msgs)
	return z.Spool.Append(ctx, msgs)
}

// Gather implements syslog.Sink.
func (z zoned) Gather(ctx context.Context, msgs []spool.Message) error {
	z.label(msgs)
	return z.Spool.Gather(ctx, msgs)
}

func (z zoned) label(msgs []spool.Message) {
	for i := range msgs {
		msgs[i].Source = z.tag
	}
}

// decoder makes entries of stored messages.
type decoder struct{ syslog map[string]*syslog.Decoder } // by source

func newDecoder() *decoder { return &decoder{syslog: map[string]*syslog.Decoder{}} }

func (d *decoder) decode(m *spool.Message, e *record.Entry) {
	if string(m.Source) == "gelf" {
		gelfin.Decode(m, e)
		return
	}
	if !bytes.HasPrefix(m.Source, []byte("syslog")) {
		e.StreamID = m.Source // standard input
		return
	}
	s := d.syslog[string(m.Source)]
	if s == nil {
		s = &syslog.Decoder{}
		if _, zone, found := bytes.Cut(m.Source, []byte("/")); found {
			if location, err := time.LoadLocation(string(zone)); err == nil {
				s.Zone = location
			}
		}
		d.syslog[string(m.Source)] = s
	}
	s.Decode(e)
}

// syslogMetrics is a prometheus.Collector.
type syslogMetrics []*syslog.Listener

// Describe implements prometheus.Collector.
func (m syslogMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m syslogMetrics) Collect(ch chan<- prometheus.Metric) {
	var sum syslog.Stats
	for _, l := range m {
		s := l.Stats()
		sum.Messages += s.Messages
		sum.Cut += s.Cut
		sum.Resyncs += s.Resyncs
		sum.Connections += s.Connections
		sum.RefusedTotal += s.RefusedTotal
		sum.RefusedAddress += s.RefusedAddress
		sum.HandshakesFailed += s.HandshakesFailed
		sum.TimedOut += s.TimedOut
		sum.BacklogMessages += s.BacklogMessages
		sum.KernelMessages += s.KernelMessages
	}
	metric := func(kind prometheus.ValueType, name, help string, v float64, reason ...string) {
		var labels []string
		if len(reason) > 0 {
			labels = []string{"reason"}
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("logship_syslog_"+name, help, labels, nil), kind, v, reason...)
	}
	metric(prometheus.CounterValue, "messages_total", "Syslog messages taken in.", float64(sum.Messages))
	metric(prometheus.CounterValue, "cut_total", "Syslog messages that were longer than the limit, or ended with their connection.", float64(sum.Cut))
	metric(prometheus.CounterValue, "resyncs_total", "Places in a stream where a message's length should have been and was not.", float64(sum.Resyncs))
	metric(prometheus.GaugeValue, "connections", "Open connections of senders.", float64(sum.Connections))
	const refused = "Connections that were closed because of a limit or without an orderly handshake."
	metric(prometheus.CounterValue, "refused_total", refused, float64(sum.RefusedTotal), "connections")
	metric(prometheus.CounterValue, "refused_total", refused, float64(sum.RefusedAddress), "connections_per_address")
	metric(prometheus.CounterValue, "refused_total", refused, float64(sum.HandshakesFailed), "handshake")
	metric(prometheus.CounterValue, "refused_total", refused, float64(sum.TimedOut), "timeout")
	const discarded = "Datagrams that came faster than they could be stored."
	metric(prometheus.CounterValue, "discarded_total", discarded, float64(sum.BacklogMessages), "backlog")
	metric(prometheus.CounterValue, "discarded_total", discarded, float64(sum.KernelMessages), "kernel")
}
