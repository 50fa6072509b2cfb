package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"sidecar/internal/health"
)

// maxGreetingBytes is how much of a greeting is read.
const maxGreetingBytes = 4096

// connect connects, and waits for a greeting if one is expected.
type connect struct {
	at     endpoint
	expect []byte
}

// tcpCheck is the check of a TCP port: that a connection is accepted.
//
// Options: expect (text that the server sends by itself, "220" of a mail server).
func tcpCheck(t *target) (Func, error) {
	at, err := t.endpoint("")
	c := connect{at, []byte(t.opt.text("expect", ""))}
	return c.run, err
}

// unixCheck is the check of a unix socket: that somebody listens on it. Options:
// expect, as with tcp.
func unixCheck(t *target) (Func, error) {
	path := t.rest
	if t.url != nil {
		path = t.url.Path
	}
	if path == "" || path[0] != '/' && path[0] != '@' {
		return nil, errors.New("want unix:/path")
	}
	c := connect{endpoint{network: "unix", address: path}, []byte(t.opt.text("expect", ""))}
	return c.run, nil
}

func (c connect) run(ctx context.Context) health.Result {
	w, err := c.at.dial(ctx)
	if errors.Is(err, syscall.EPROTOTYPE) && len(c.expect) == 0 {
		// The socket is one for datagrams: connecting proves that it has a reader too.
		datagram := c.at
		datagram.network = "unixgram"
		w, err = datagram.dial(ctx)
	}
	if err != nil {
		return failed("connect", err)
	}
	defer w.Close()
	if len(c.expect) == 0 {
		return pass("accepts connections")
	}
	greeting, err := readUntil(w, c.expect)
	if err == nil {
		return pass("greets with %q", cutText(firstLine(greeting), 64))
	}
	return failed(fmt.Sprintf("await %q", cutText(string(c.expect), 64)), err)
}

// readUntil reads until want has come, at most maxGreetingBytes.
func readUntil(r io.Reader, want []byte) ([]byte, error) {
	buf := make([]byte, 0, maxGreetingBytes)
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if bytes.Contains(buf, want) {
			return buf, nil
		}
		if errors.Is(err, io.EOF) {
			return buf, fmt.Errorf("the connection was closed after %q", cutText(string(buf), 64))
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, fmt.Errorf("not in the first %d bytes", maxGreetingBytes)
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return string(bytes.TrimSpace(line))
}
