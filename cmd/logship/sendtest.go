package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/gelf"
	"sidecar/internal/graylog"
	"sidecar/internal/record"
	"sidecar/internal/settings"
)

const (
	// sendTestMark is the field that every message of send-test has.
	sendTestMark = "send_test"
	// sendTestPoll is how often Graylog is asked; it shows a message about a second
	// after it was indexed.
	sendTestPoll = 250 * time.Millisecond
)

// sendTest is one run of the verb send-test.
type sendTest struct {
	api   string
	token settings.Secret
	wait  time.Duration
	out   io.Writer
	id    string
}

func newSendTest(flags *configFlags) *cobra.Command {
	var s sendTest
	var token string
	cmd := &cobra.Command{
		Use:   "send-test",
		Short: "Send one marked message to the receiver, and find it again in Graylog",
		Long: `send-test sends one message through the configured output, waits until it is confirmed, and
prints how long that took. It has the field send_test, the configuration's static fields and
an event_id of its own, and went through rules and redaction as every message.

With --api and --token it then asks Graylog's REST API (5.1 or later) for the event_id until the
message is found: received, processed, indexed and visible to the user of the token. The token
is "env:NAME", "file:/path" or "cred:name", never the token itself. TLS is that of output.tls.

It can be used beside a logship that runs.

Exit codes: 0 confirmed, with --api also found; 1 not, 2 usage, 4 receiver or API unreachable,
5 TLS or token, 78 configuration.`,
		Example: `  logship send-test
  GRAYLOG_TOKEN=1c2f logship send-test --config logship.toml --api http://127.0.0.1:9000/api --token env:GRAYLOG_TOKEN`,
		Args: cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.out = cmd.OutOrStdout()
			api, err := s.checkFlags(token)
			if err != nil {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
			}
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			ctx, stop := cli.UntilSignal()
			defer stop()
			return s.run(ctx, opener{c, effective, slog.New(slog.DiscardHandler)}, api)
		},
	}
	cmd.Flags().StringVar(&s.api, "api", "", "`URL` of Graylog's REST API, such as https://graylog.example.com/api")
	cmd.Flags().StringVar(&token, "token", "", "where the access token of the API is: env:NAME, file:/path or cred:name")
	cmd.Flags().DurationVar(&s.wait, "wait", time.Minute, "how long to look for the message")
	return cmd
}

// checkFlags returns the URL of the API, nil without --api.
func (s *sendTest) checkFlags(token string) (*url.URL, error) {
	if err := s.token.UnmarshalText([]byte(token)); err != nil {
		return nil, fmt.Errorf("--token: %w", err)
	}
	switch {
	case s.wait <= 0:
		return nil, errors.New("--wait: want more than 0s")
	case s.api == "" && token == "":
		return nil, nil
	case s.api == "":
		return nil, errors.New("--token is for --api: add the URL of Graylog's REST API")
	case token == "":
		return nil, errors.New("--api needs --token: make one in Graylog under System, Users, Edit tokens")
	}
	api, err := url.Parse(s.api)
	if err != nil || api.Scheme != "http" && api.Scheme != "https" || api.Hostname() == "" || api.User != nil || api.RawQuery != "" {
		return nil, errors.New("--api: want a URL such as https://graylog.example.com/api")
	}
	return api, nil
}

// run sends the message and, with an API, looks for it.
func (s *sendTest) run(ctx context.Context, o opener, api *url.URL) error {
	var search *graylog.Search
	if api != nil { // a wrong token or TLS file is known before anything is sent
		token, err := s.token.Reveal()
		if err != nil {
			return err
		}
		client, err := o.client(api.Scheme == "https")
		if err != nil {
			return err
		}
		client.Timeout = time.Duration(o.Output.Timeout)
		defer client.CloseIdleConnections()
		search = &graylog.Search{API: api, Token: token, Client: client}
	}
	s.id = "test-" + strings.ToLower(rand.Text())
	frame, err := o.testFrame(s.id)
	if err != nil {
		return err
	}
	out, name, err := o.output()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := confirmAnywhere(ctx, out, frame, time.Duration(o.Output.Timeout)); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "confirmed  %s by %s\n", took(began), cli.Printable(name))
	if search == nil {
		_, err := fmt.Fprintf(s.out, "search     event_id:%s\n", strconv.Quote(s.id))
		return err
	}
	if err := s.find(ctx, search); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "found      %s by %s  event_id:%s\n", took(began), cli.Printable(api.Host), strconv.Quote(s.id))
	return err
}

// took returns the time since began for people.
func took(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }

// testFrame returns the test message, made as every other message is.
func (o opener) testFrame(id string) ([]byte, error) {
	pipeline, err := o.pipeline()
	if err != nil {
		return nil, err
	}
	pipeline.GELF.AddStatic(sendTestMark, "true")
	recs, left := pipeline.Records(nil, &record.Entry{Message: []byte("logship send-test"), TimeUsec: time.Now().UnixMicro(), Priority: 6,
		Identifier: []byte("logship"), PID: strconv.AppendInt(nil, int64(os.Getpid()), 10), ID: []byte(id)})
	if left > 0 || len(recs) != 1 {
		return nil, errors.New(`a rule of the configuration leaves out the test message, whose identifier is "logship": nothing is sent`)
	}
	return append(gelf.Append(nil, &recs[0], &pipeline.GELF), 0), nil
}

// find asks until the message is there.
func (s *sendTest) find(ctx context.Context, search *graylog.Search) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.wait, fmt.Errorf("confirmed by the receiver, but not found within %v; "+
		"look in Graylog for indexing failures (System, Overview), for messages that wait in its journal (System, Nodes), "+
		"and whether the token's user may read the stream", s.wait))
	defer cancel()
	for {
		found, err := search.Find(ctx, s.id)
		switch {
		case found:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return cli.WithCode(apiCode(err), fmt.Errorf("confirmed by the receiver, but cannot search: %w", err))
		}
		timer := time.NewTimer(sendTestPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// apiCode returns the exit code for an API that does not answer as it should.
func apiCode(err error) int {
	untrusted := new(tls.CertificateVerificationError)
	switch {
	case errors.Is(err, graylog.ErrToken) || errors.As(err, &untrusted):
		return cli.ExitTLS
	case errors.As(err, new(*url.Error)): // no answer at all
		return cli.ExitUnreachable
	}
	return cli.ExitFailed
}
