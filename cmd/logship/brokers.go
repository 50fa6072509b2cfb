package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidecar/internal/output"
	"sidecar/internal/output/amqp"
	"sidecar/internal/output/file"
	"sidecar/internal/output/kafka"
)

// topicName is what Kafka takes for the name of a topic.
var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// kafkaURL is the check of kafka://broker,broker:9092/topic?compression=zstd.
func kafkaURL(u *url.URL) error {
	if _, err := brokers(u); err != nil {
		return err
	}
	if !topicName.MatchString(strings.TrimPrefix(u.Path, "/")) {
		return errors.New("not a topic after the brokers")
	}
	if err := onlyQuery(u, "compression", "mechanism"); err != nil {
		return err
	}
	q := u.Query()
	_, err := kafka.New(kafka.Options{Compression: q.Get("compression"), Mechanism: q.Get("mechanism")})
	return err
}

// brokers returns the brokers that are in place of a URL's host, with commas between
// them, each with its port.
func brokers(u *url.URL) (all []string, err error) {
	port := "9092"
	if u.Scheme == "kafka+tls" {
		port = "9093"
	}
	for one := range strings.SplitSeq(u.Host, ",") {
		b := url.URL{Host: one}
		own := cmp.Or(b.Port(), port)
		if n, err := strconv.ParseUint(own, 10, 16); err != nil || n == 0 || b.Hostname() == "" {
			return nil, fmt.Errorf("not a broker: %q", one)
		}
		all = append(all, net.JoinHostPort(b.Hostname(), own))
	}
	return all, nil
}

// amqpURL is the check of amqp://host/vhost?queue=name, or with exchange and
// routing_key. What is left out of the path is the virtual host "/".
func amqpURL(u *url.URL) error {
	if u.Hostname() == "" {
		return errors.New("no host")
	}
	if err := onlyQuery(u, "queue", "exchange", "routing_key"); err != nil {
		return err
	}
	q := u.Query()
	if q.Get("queue") == "" && q.Get("exchange") == "" && q.Get("routing_key") == "" {
		return errors.New("neither a queue nor an exchange and a routing key")
	}
	if q.Has("queue") && (q.Has("exchange") || q.Has("routing_key")) {
		return errors.New("a queue, and an exchange or a routing key: messages can go one way only")
	}
	return nil
}

// onlyQuery returns what is wrong with the parts of u behind its path, and before its host.
func onlyQuery(u *url.URL, known ...string) error {
	if u.User != nil {
		return errors.New("a user in it: that is output.user, with output.password")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Fragment != "" {
		return errors.New("not a query at its end")
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown name %q in its query (there are: %s)", name, strings.Join(known, " "))
		}
		if len(values) > 1 {
			return fmt.Errorf("%s is there twice", name)
		}
	}
	return nil
}

// fileURL is the check of file:///path.
func fileURL(u *url.URL) error {
	rest := *u
	rest.Scheme, rest.Path, rest.RawPath = "", "", ""
	if !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") || rest != (url.URL{}) {
		return errors.New("not an absolute path and nothing else")
	}
	return nil
}

// stdoutURL is the check of stdout: and stdout://.
func stdoutURL(u *url.URL) error {
	if u.Opaque+u.Host+u.Path+u.RawQuery+u.Fragment != "" || u.User != nil {
		return errors.New("something behind the colon")
	}
	return nil
}

// credentials returns output.user and output.password.
func (o opener) credentials() (user, password string, err error) {
	if (o.Output.User == "") != o.Output.Password.IsZero() {
		return "", "", o.effective.Errorf("output.user", "user and password belong together: set both or none")
	}
	if o.Output.User == "" {
		return "", "", nil
	}
	password, err = o.Output.Password.Reveal()
	if err != nil {
		return "", "", o.effective.Errorf("output.password", "%v", err)
	}
	return o.Output.User, password, nil
}

// kafka returns a producer to Kafka, over TLS if the scheme says so.
func (o opener) kafka(u *url.URL) (output.Output, error) {
	q := u.Query()
	options := kafka.Options{Topic: strings.TrimPrefix(u.Path, "/"), Mechanism: q.Get("mechanism"), Compression: q.Get("compression"),
		Timeout: time.Duration(o.Output.Timeout)}
	var err error
	if options.Brokers, err = brokers(u); err != nil {
		return nil, err
	}
	if options.User, options.Password, err = o.credentials(); err != nil {
		return nil, err
	}
	if u.Scheme == "kafka+tls" {
		// Each broker has a name of its own, which the client takes for the expected one.
		if options.TLS, err = o.tls(""); err != nil {
			return nil, err
		}
	}
	return kafka.New(options)
}

// amqp returns a publisher to RabbitMQ, over TLS if the scheme says so.
func (o opener) amqp(u *url.URL) (output.Output, error) {
	q := u.Query()
	options := amqp.Options{Address: u.Host, Vhost: strings.TrimPrefix(u.Path, "/"),
		Queue: q.Get("queue"), Exchange: q.Get("exchange"), RoutingKey: q.Get("routing_key"),
		Timeout: time.Duration(o.Output.Timeout), Log: o.log}
	var err error
	if options.User, options.Password, err = o.credentials(); err != nil {
		return nil, err
	}
	if u.Scheme == "amqps" {
		if options.TLS, err = o.tls(u.Hostname()); err != nil {
			return nil, err
		}
	}
	return amqp.New(options), nil
}

func (o opener) file(u *url.URL) (output.Output, error) { return file.New(u.Path), nil }

func (o opener) stdout(*url.URL) (output.Output, error) { return file.NewStream(os.Stdout), nil }
