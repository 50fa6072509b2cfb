package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/health"
)

// listen serves each connection to a loopback port, or to a unix socket, with f until
// the test ends, and returns its address.
func listen(t testing.TB, network string, f func(net.Conn)) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String()
}

// says is a server that reads want bytes at most once and answers with text.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, text)
	}
}

// hangs is a server that never answers.
func hangs(c net.Conn) { io.Copy(io.Discard, c) }

func mustParse(t testing.TB, text string, env Env) Check {
	t.Helper()
	c, err := Parse(text, nil, env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// probe parses a target and runs it once.
func probe(t testing.TB, text string, env Env) health.Result {
	t.Helper()
	c := mustParse(t, text, env)
	ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
	defer cancel()
	return c.Run(ctx)
}

// want fails unless the result has the state, and the words in its text.
func want(t testing.TB, r health.Result, state health.State, words ...string) {
	t.Helper()
	if r.State != state {
		t.Errorf("state is %s, want %s: %s", r.State, state, r.Text)
	}
	for _, w := range words {
		if !strings.Contains(r.Text, w) {
			t.Errorf("text is %q, want %q in it", r.Text, w)
		}
	}
	if len(r.Text) > maxTextBytes {
		t.Errorf("text has %d bytes", len(r.Text))
	}
}

// value returns a value of a result.
func value(t testing.TB, r health.Result, name string) float64 {
	t.Helper()
	for _, v := range r.Values {
		if v.Name == name {
			return v.Value
		}
	}
	t.Fatalf("no value %s in %v", name, r.Values)
	return 0
}

// at is a fixed clock.
func at(s string) func() time.Time {
	when, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return func() time.Time { return when }
}
