package gelfin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/socket"
	"sidecar/internal/socket/sockettest"
)

// send sends one document in a connection of its own, and returns what tells its fate.
func (r *running) send(t *testing.T, scheme, document string) (answer func() error) {
	t.Helper()
	network, text := "tcp", document+"\x00"
	switch scheme {
	case "udp":
		network, text = "udp", document
	case "http":
		text = fmt.Sprintf("POST /gelf HTTP/1.1\r\nHost: logship\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(document), document)
	}
	c := r.dial(t, network)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return func() error {
		switch scheme {
		case "tcp":
			c.(*net.TCPConn).CloseWrite()
			_, err := io.ReadAll(c)
			return err
		case "http":
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil && resp.StatusCode != http.StatusAccepted {
				err = errors.New(resp.Status)
			}
			return err
		}
		return nil
	}
}

// TestARestartRefusesNobody: while no process listens, senders connect and send as ever, and
// the next process has it all.
func TestARestartRefusesNobody(t *testing.T) {
	for _, scheme := range []string{"udp", "tcp", "http"} {
		t.Run(scheme, func(t *testing.T) {
			m := sockettest.NewManager(t)
			first := run(t, scheme, Options{})
			m.Next(t)
			if err := first.send(t, scheme, `{"a":1}`)(); err != nil {
				t.Fatal(err)
			}
			first.texts(t, 1)
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}
			answer := first.send(t, scheme, `{"a":2}`)

			second := run(t, scheme, Options{Inherited: m.Pass(t)})
			m.Next(t)
			if err := answer(); err != nil {
				t.Errorf("sent between two processes: %v", err)
			}
			if err := first.send(t, scheme, `{"a":3}`)(); err != nil {
				t.Errorf("sent to the address after a restart: %v", err)
			}
			if got := second.texts(t, 2); strings.Join(got, "|") != `{"a":2}|{"a":3}` {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestTheEndTakesWhatTheKernelHolds: all datagrams, and what an open connection has.
func TestTheEndTakesWhatTheKernelHolds(t *testing.T) {
	t.Run("udp", func(t *testing.T) {
		s := &memory{discards: map[string]uint64{}}
		s.changed.L = &s.mu
		l, err := Listen(Options{Listen: "udp://127.0.0.1:0", Sink: s, OnDiscard: s.discard, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("udp", l.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const count = 20
		for i := range count {
			fmt.Fprintf(c, `{"n":%d}`, i)
		}
		c.Write(chunk(1, 0, 2, `{"n":`))
		c.Write(chunk(2, 0, 2, `lost`))
		c.Write(chunk(1, 1, 2, `20}`))
		l.shut()
		l.runUDP(t.Context(), l.sockets[0], l.backlogs[0])
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := s.texts(t, 0); len(got) != count+1 || got[count] != `{"n":20}` {
			t.Errorf("%d of %d documents, %q", len(got), count+1, got)
		}
		if s.discards[ReasonIncomplete] != 1 {
			t.Errorf("discards %v, want one for half a message", s.discards)
		}
	})
	t.Run("tcp", func(t *testing.T) {
		s := &memory{hold: make(chan struct{})}
		r := run(t, "tcp", Options{Sink: s})
		c := r.dial(t, "tcp")
		const count = 5000
		for i := range count {
			fmt.Fprintf(c, "{\"n\":%d}\x00", i)
		}
		r.wait(t, func() bool { return s.held > 0 }) // the connection is served
		ended := make(chan error, 1)
		go func() { ended <- r.stop() }()
		r.closed(t)
		close(s.hold)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a sender that has not ended sees %v", err)
		}
		if got := s.texts(t, 0); len(got) != count || got[count-1] != fmt.Sprintf(`{"n":%d}`, count-1) {
			t.Errorf("%d of %d documents", len(got), count)
		}
	})
}

// closed waits until Run has begun to end.
func (r *running) closed(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; {
		r.Listener.mu.Lock()
		closing := r.closing
		r.Listener.mu.Unlock()
		if closing {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("Run does not end")
		}
	}
}

// TestTheEndAnswersRequestsThatHaveBegun: no sender is told that its documents are wrong.
func TestTheEndAnswersRequestsThatHaveBegun(t *testing.T) {
	r := run(t, "http", Options{})
	c := r.dial(t, "tcp")
	answers := bufio.NewReader(c)
	io.WriteString(c, "POST /gelf HTTP/1.1\r\nHost: logship\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n")
	answer := func(want int) {
		t.Helper()
		resp, err := http.ReadResponse(answers, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("got %v, %v, want %d", resp, err, want)
		}
	}
	answer(http.StatusContinue)
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	r.closed(t)
	io.WriteString(c, `{"a":1}`)
	answer(http.StatusAccepted)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r.texts(t, 1)
}

// TestARequestThatDoesNotArrive is not taken for one that is wrong.
func TestARequestThatDoesNotArrive(t *testing.T) {
	r := run(t, "http", Options{})
	for _, encoding := range []string{"identity", "gzip"} {
		body := compressed(t, "gzip", bytes.Repeat([]byte("x"), 100))
		c := r.dial(t, "tcp")
		fmt.Fprintf(c, "POST /gelf HTTP/1.1\r\nHost: logship\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", encoding, len(body), body[:len(body)/2])
		c.(*net.TCPConn).CloseWrite()
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s: got %v, %v", encoding, resp, err)
		}
	}
	r.wait(t, func() bool { return r.discards[ReasonIncomplete] == 2 && len(r.discards) == 1 })
}

// TestSocketUnit: the sockets of a unit are UDP and TCP, or HTTP, and nothing else.
func TestSocketUnit(t *testing.T) {
	dir := t.TempDir()
	pass := func(addresses ...string) *socket.Inherited {
		m := sockettest.NewManager(t)
		for _, s := range addresses {
			network, name, _ := strings.Cut(s, ":")
			a, err := socket.NewAddress(network, name)
			if err != nil {
				t.Fatal(err)
			}
			all, err := (*socket.Inherited)(nil).Open(a, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer all[0].Close()
			if err := all[0].Keep(); err != nil {
				t.Fatal(err)
			}
			m.Next(t)
		}
		return m.PassAs(t, "gelf")
	}
	for _, c := range []struct {
		listen string
		unit   []string
		ok     bool
	}{
		{"systemd:gelf", []string{"tcp://127.0.0.1:0", "udp://127.0.0.1:0"}, true},
		{"http+systemd:gelf", []string{"tcp://127.0.0.1:0"}, true},
		{"http+systemd:gelf", []string{"udp://127.0.0.1:0"}, false},
		{"systemd:gelf", []string{"unixgram:" + dir + "/d"}, false},
		{"systemd:gelf", []string{"tcp://127.0.0.1:0", "unix:" + dir + "/s"}, false},
		{"systemd:other", []string{"tcp://127.0.0.1:0"}, false},
	} {
		in := pass(c.unit...)
		l, err := Listen(Options{Listen: c.listen, Inherited: in})
		if (err == nil) != c.ok {
			t.Errorf("%s of %q: %v", c.listen, c.unit, err)
		}
		if err == nil {
			if len(l.Addrs()) != len(c.unit) {
				t.Errorf("%s listens at %v", c.listen, l.Addrs())
			}
			l.Close()
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}
