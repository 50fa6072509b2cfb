package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/output"
	"sidecar/internal/settings"
)

// scheme is a kind of output.
type scheme struct {
	form  string // what its URLs look like, for messages
	port  string // if the URL has a host without one
	check func(u *url.URL) error
	open  func(o opener, u *url.URL) (output.Output, error)
}

// schemes are the kinds of outputs by the scheme of their URLs.
var schemes = map[string]scheme{
	"gelf+tcp":   {"gelf+tcp://host:12201", "12201", hostOnly, opener.tcp},
	"gelf+tls":   {"gelf+tls://host:12201", "12201", hostOnly, opener.tcp},
	"gelf+http":  {"gelf+http://host:12201/gelf", "12201", hostAndPath, opener.http},
	"gelf+https": {"gelf+https://host:12201/gelf", "12201", hostAndPath, opener.http},
	"gelf+udp":   {"gelf+udp://host:12201", "12201", hostOnly, opener.udp},
	"kafka":      {"kafka://host:9092/topic", "", kafkaURL, opener.kafka},
	"kafka+tls":  {"kafka+tls://host:9093/topic", "", kafkaURL, opener.kafka},
	"amqp":       {"amqp://host:5672/vhost?queue=name", "5672", amqpURL, opener.amqp},
	"amqps":      {"amqps://host:5671/vhost?queue=name", "5671", amqpURL, opener.amqp},
	"file":       {"file:///path", "", fileURL, opener.file},
	"stdout":     {"stdout:", "", stdoutURL, opener.stdout},
}

// target is where messages go: a URL of a known scheme that passed its check,
// with a port.
type target struct {
	*url.URL
	scheme
}

// name returns what the target is called in logs.
func (t target) name() string { return cmp.Or(t.Host, t.Path, t.Scheme) }

// parseTarget reads a URL of an output. Its errors do not repeat the URL, which may
// hold a password by mistake.
func parseTarget(raw string) (target, error) {
	forms := make([]string, 0, len(schemes))
	for _, name := range slices.Sorted(maps.Keys(schemes)) {
		forms = append(forms, schemes[name].form)
	}
	want := "want " + strings.Join(forms, " or ")
	u, err := url.Parse(raw)
	if err != nil {
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return target{}, fmt.Errorf("not a URL: %w; %s", err, want)
	}
	if u.Scheme == "" {
		return target{}, errors.New("no kind of output before the host; " + want)
	}
	s, ok := schemes[u.Scheme]
	if !ok {
		return target{}, fmt.Errorf("unknown kind of output %q; %s", u.Scheme, want)
	}
	if err := s.check(u); err != nil {
		return target{}, fmt.Errorf("%w; want %s", err, s.form)
	}
	if u.Host != "" && s.port != "" {
		port := cmp.Or(u.Port(), s.port)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return target{}, fmt.Errorf("port %s is not 1 to 65535; want %s", port, s.form)
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return target{u, s}, nil
}

// hostOnly is the check of URLs that have a host, perhaps a port, and nothing else.
func hostOnly(u *url.URL) error {
	rest := *u
	rest.Scheme, rest.Host = "", ""
	if u.Hostname() == "" || rest != (url.URL{}) && rest != (url.URL{Path: "/"}) {
		return errors.New("not a host with a port and nothing else")
	}
	return nil
}

// opener makes outputs.
type opener struct {
	*Config
	effective *settings.Effective
	log       *slog.Logger
}

// targets returns the targets of output.url and output.urls, in their order. None
// is an error.
func (o opener) targets() ([]target, error) {
	var all []target
	var errs []error
	add := func(key, raw string) {
		t, err := parseTarget(raw)
		if err == nil && slices.ContainsFunc(all, func(other target) bool { return other.URL != nil && other.name() == t.name() }) {
			err = fmt.Errorf("%s is there twice: it would be no help to itself", t.name())
		}
		if err != nil {
			errs = append(errs, o.effective.Errorf(key, "%v", err))
		}
		all = append(all, t)
	}
	if o.Output.URL != "" {
		add("output.url", o.Output.URL)
	}
	for _, raw := range o.Output.URLs {
		add("output.urls", raw)
	}
	if len(all) == 0 {
		return nil, o.effective.Errorf("output.url", `not set: say where to ship to, such as url = "gelf+tcp://graylog.example.com:12201" in [output], or LOGSHIP_OUTPUT__URL`)
	}
	return all, errors.Join(errs...)
}

// output returns the output, not connected, and its name for logs.
func (o opener) output() (*output.Group, string, error) {
	targets, err := o.targets()
	if err != nil {
		return nil, "", err
	}
	group := output.GroupOptions{Random: o.Output.Balance == "random", Reconnect: time.Duration(o.Output.Reconnect), Log: o.log}
	names := make([]string, 0, len(targets))
	for _, t := range targets {
		out, err := t.open(o, t.URL)
		if err != nil {
			return nil, "", err
		}
		names = append(names, t.name())
		group.Targets = append(group.Targets, output.Target{Name: t.name(), Output: out, LBStatus: o.lbStatus(t.URL)})
	}
	group.Client, err = o.client(strings.HasPrefix(o.Output.LBStatus, "https:"))
	return output.NewGroup(group), strings.Join(names, ", "), err
}

// lbHost stands for the host of each target in output.lbstatus.
const lbHost = "{host}"

// lbStatus returns the URL of the state of a target; "" if it has none.
func (o opener) lbStatus(u *url.URL) string {
	host := u.Hostname()
	if host == "" {
		return ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return strings.ReplaceAll(o.Output.LBStatus, lbHost, host)
}

// checkLBStatus returns what is wrong with output.lbstatus.
func checkLBStatus(raw string) error {
	if raw == "" {
		return nil
	}
	u, err := url.Parse(strings.ReplaceAll(raw, lbHost, "host"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New(`not the URL of a state: want "http://{host}:9000/api/system/lbstatus" or "https://…"; {host} is the host of each receiver`)
	}
	return nil
}

// client returns what asks Graylog's REST API, for output.lbstatus and send-test: with
// the TLS of the output, whose files are read only for that, and without proxies.
func (o opener) client(https bool) (*http.Client, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}
	if https {
		if _, err := o.readTLS(""); err != nil {
			return nil, err
		}
		transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			conf, err := o.readTLS(host)
			if err != nil {
				return nil, err
			}
			return (&tls.Dialer{Config: conf}).DialContext(ctx, network, address)
		}
	}
	return &http.Client{Transport: transport}, nil
}

// resolver returns how host names of outputs become addresses.
func (o opener) resolver() output.Resolver {
	return output.Resolver{Refresh: time.Duration(o.Output.DNSRefresh), Shuffle: o.Output.Balance == "random"}
}

// tcp returns GELF over TCP, or over TLS if the scheme says so.
func (o opener) tcp(u *url.URL) (output.Output, error) {
	if _, err := o.compression("gzip", "zlib"); err != nil { // its bytes could be those of a frame's end
		return nil, err
	}
	options := output.TCPOptions{Address: u.Host, DialTimeout: time.Duration(o.Output.Timeout),
		Ack: output.Ack(o.Output.Confirm), Resolver: o.resolver(), Log: o.log}
	if u.Scheme == "gelf+tls" {
		var err error
		if options.TLS, err = o.tls(u.Hostname()); err != nil {
			return nil, err
		}
	}
	return output.NewTCP(options), nil
}

// outputMetrics are the metrics of the targets.
type outputMetrics struct{ *output.Group }

// Describe implements prometheus.Collector.
func (m outputMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m outputMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.Status()
	metric := func(kind prometheus.ValueType, name, help string, v float64, label, value string) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("logship_"+name, help, []string{label}, nil), kind, v, value)
	}
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for i, t := range m.Targets {
		metric(prometheus.GaugeValue, "target_in_use", "1 for the receiver that messages go to, or went to last.", is(t.Name == s.Target), "target", t.Name)
		metric(prometheus.GaugeValue, "target_held", "1 while the receiver wants to be sent nothing.", is(t.Name == s.Target && s.Held), "target", t.Name)
		metric(prometheus.CounterValue, "target_failures_total", "Times that the receiver could not be connected to, or its connection failed.", float64(s.Failures[i]), "target", t.Name)
	}
	for _, ack := range []output.Ack{output.AckHalfClose, output.AckKernel, output.AckNone} {
		metric(prometheus.GaugeValue, "ack_mode", "1 for what the last confirmation stood on.", is(s.Ack == ack), "mode", string(ack))
	}
}
