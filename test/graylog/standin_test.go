package graylog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/gelf/gelftest"
)

// standIn starts an input of gelftest.
func standIn(t *testing.T) *inputs {
	t.Helper()
	in := &inputs{messages: make(chan answer, 4096)} // as for Graylog
	g, err := gelftest.Listen(gelftest.Options{TCP: "127.0.0.1:0", HTTP: "127.0.0.1:0", UDP: "127.0.0.1:0", Sink: func(m gelftest.Message) {
		a := answer{Refused: m.Verdict().Reason}
		if v := m.Verdict(); v.Outcome == gelf.Accepted {
			a.Document = map[string]any{"message": v.Message}
		}
		in.messages <- a
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		g.Close()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	in.tcp, in.http, in.udp = g.Addr("tcp"), g.Addr("http"), g.Addr("udp")
	return in
}

// message returns a GELF message of a size, or of the least for 0.
func message(text string, size int) string {
	const form = `{"host":"h","short_message":%q,"full_message":"x%s"}`
	return fmt.Sprintf(form, text, strings.Repeat("x", max(0, size-len(fmt.Sprintf(form, text, "")))))
}

// stream sends bytes over TCP and waits until the input closes. Only if it should not do
// so by itself, the sending half is closed first.
func (in *inputs) stream(t *testing.T, sent string, closes bool) {
	t.Helper()
	c, err := net.DialTimeout("tcp", in.tcp, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(c, sent)
	if err == nil && !closes {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err != nil && !closes {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) || err != nil && !closes {
		t.Errorf("the input does not close: %v", err)
	}
}

// post makes a request and returns the status of the answer.
func (in *inputs) post(t *testing.T, method, path, body string, header ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+in.http+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// accepted returns the text of the next message that is accepted.
func (in *inputs) accepted(t *testing.T) string {
	t.Helper()
	for {
		if text, is := in.next(t).Document["message"].(string); is {
			return text
		}
	}
}

// until returns the texts of the messages that were accepted before one that is sent now.
func (in *inputs) until(t *testing.T) (texts []string) {
	t.Helper()
	const end = "the end"
	in.stream(t, message(end, 0)+"\x00", false)
	for text := in.accepted(t); text != end; text = in.accepted(t) {
		texts = append(texts, text)
	}
	return texts
}

// compareInputs sends the same to Graylog's inputs and to gelftest's, which are to answer
// in the same way and to take the same messages.
func compareInputs(t *testing.T, graylog, ours *inputs) {
	const torn = `{"host":"h","short_message":"to`
	a, b := message("a", 0), message("b", 0)
	for _, tt := range []struct {
		name, sent string
		closes     bool
		want       []string
	}{
		{"two frames", a + "\x00" + b + "\x00", false, []string{"a", "b"}},
		{"last frame without delimiter", a + "\x00" + b, false, []string{"a", "b"}},
		{"last frame torn", a + "\x00" + torn, false, []string{"a"}},
		{"two documents in a frame", a + b + "\x00" + b + "\x00", false, []string{"a", "b"}},
		{"frame that is no JSON", "hello\x00" + b + "\x00", false, []string{"b"}},
		{"longest frame", message("long", gelftest.MaxFrameBytes) + "\x00" + b + "\x00", false, []string{"long", "b"}},
		{"nothing", "", false, nil},
		{"empty frame", a + "\x00\x00", true, []string{"a"}},
		{"frame of one byte", a + "\x00{\x00", true, []string{"a"}},
		{"frame that is too long", a + "\x00" + message("long", gelftest.MaxFrameBytes+1) + "\x00", true, []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, in := range map[string]*inputs{"Graylog": graylog, "gelftest": ours} {
				in.stream(t, tt.sent, tt.closes)
				if got := in.until(t); !slices.Equal(got, tt.want) {
					t.Errorf("%s takes %q, want %q", name, got, tt.want)
				}
			}
		})
	}

	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.WriteString(z, a)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     []string
	}{
		{"message", "POST", "/gelf", a, nil, 202, []string{"a"}},
		{"message by gzip", "POST", "/gelf", packed.String(), []string{"Content-Encoding", "gzip"}, 202, []string{"a"}},
		{"body that is no JSON", "POST", "/gelf", "hello", nil, 202, nil},
		{"lines without bulk", "POST", "/gelf", a + "\n" + b + "\n", nil, 202, []string{"a"}},
		{"longest body", "POST", "/gelf", message("long", gelftest.MaxBodyBytes), nil, 202, []string{"long"}},
		{"body that is too long", "POST", "/gelf", message("long", gelftest.MaxBodyBytes+1), nil, 413, nil},
		{"other path", "POST", "/", a, nil, 404, nil},
		{"query", "POST", "/gelf?x=1", a, nil, 404, nil},
		{"GET", "GET", "/gelf", "", nil, 405, nil},
		{"PUT", "PUT", "/gelf", a, nil, 405, nil},
		{"OPTIONS", "OPTIONS", "/gelf", "", nil, 200, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, in := range map[string]*inputs{"Graylog": graylog, "gelftest": ours} {
				if got := in.post(t, tt.method, tt.path, tt.body, tt.header...); got != tt.status {
					t.Errorf("%s answers %d, want %d", name, got, tt.status)
				}
				for _, want := range tt.want { // the answer comes before the message is handed over
					if got := in.accepted(t); got != want {
						t.Errorf("%s takes %q, want %q", name, got, want)
					}
				}
				if got := in.until(t); len(got) > 0 {
					t.Errorf("%s takes %q too", name, got)
				}
			}
		})
	}
}
