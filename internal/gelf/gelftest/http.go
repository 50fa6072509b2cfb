package gelftest

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
)

// connKey is the context key of a request's *conn.
type connKey struct{}

// httpServer returns the server of the HTTP input: HTTP/1.1 only, as Graylog's.
func (in *Input) httpServer() *http.Server {
	server := &http.Server{
		Handler:                      http.HandlerFunc(in.serveHTTP),
		DisableGeneralOptionsHandler: true,
		IdleTimeout:                  in.o.IdleTimeout,
		ReadTimeout:                  in.o.IdleTimeout,
		MaxHeaderBytes:               8 << 10,
		TLSNextProto:                 map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:                     log.New(logWriter(in.o.Logf), "", 0),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, unwrap(nc))
		},
		ConnState: func(nc net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				in.endLines(unwrap(nc))
			}
		},
	}
	return server
}

// tlsGate is a gate whose connections speak TLS.
type tlsGate struct {
	*gate
	config *tls.Config
}

func (g tlsGate) Accept() (net.Conn, error) {
	c, err := g.gate.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(c, g.config), nil
}

// unwrap returns the conn under an HTTP connection.
func unwrap(nc net.Conn) *conn {
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	return nc.(*conn) // all that a gate accepts are
}

type logWriter func(string, ...any)

func (w logWriter) Write(p []byte) (int, error) {
	w("%s", strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// serveHTTP answers as Graylog: never 400, 429 or 5xx. The size counts first,
// then OPTIONS, the authorization, the method and the path; 202 comes before
// the body is looked at.
func (in *Input) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !in.enter() {
		panic(http.ErrAbortHandler)
	}
	defer in.handlers.Done()
	w.Header().Set("Content-Length", "0")
	body, fits := in.readBody(r)
	auth := in.o.AuthHeader == "" || in.o.AuthValue != "" && r.Header.Get(in.o.AuthHeader) == in.o.AuthValue
	switch {
	case !fits:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusOK)
	case !auth:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case r.RequestURI != "/gelf":
		w.WriteHeader(http.StatusNotFound)
	default:
		w.WriteHeader(http.StatusAccepted)
		// An error shows at the next read of the connection.
		_ = http.NewResponseController(w).Flush()
		c := r.Context().Value(connKey{}).(*conn) // set by ConnContext
		if err := in.ingest(c, body); err != nil {
			in.o.Logf("%s: close: %v", c.RemoteAddr(), err)
			panic(http.ErrAbortHandler)
		}
	}
}

// readBody returns the body without its Content-Encoding, and false if it is
// longer than the limit. A body that cannot be read closes the connection
// without an answer.
func (in *Input) readBody(r *http.Request) (body []byte, fits bool) {
	limit := int64(in.o.MaxBodyBytes)
	encoding := strings.ToLower(r.Header.Get("Content-Encoding"))
	var stream io.Reader = r.Body
	var err error
	switch encoding {
	case "gzip", "x-gzip":
		stream, err = gzip.NewReader(r.Body)
	case "deflate", "x-deflate":
		stream, err = deflateReader(r.Body)
	default:
		// Answered without reading, so that Expect: 100-continue gets 413 too.
		if r.ContentLength > limit {
			return nil, false
		}
	}
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(stream, limit+1))
	}
	if err != nil {
		in.o.Logf("%s: read body: %v", r.RemoteAddr, err)
		panic(http.ErrAbortHandler)
	}
	return body, int64(len(body)) <= limit
}

// deflateReader reads zlib or raw deflate, whichever r begins with: both are
// called deflate.
func deflateReader(r io.Reader) (io.Reader, error) {
	br := bufio.NewReader(r)
	head, err := br.Peek(2)
	if err != nil {
		return nil, err
	}
	if isZlib(head) {
		return zlib.NewReader(br)
	}
	return flate.NewReader(br), nil
}

// isZlib reports whether b begins with a zlib header (RFC 1950 section 2.2).
func isZlib(b []byte) bool {
	return len(b) >= 2 && b[0] == 0x78 && (int(b[0])<<8|int(b[1]))%31 == 0
}

// ingest hands over the messages of a body that was accepted. An error closes
// the connection.
func (in *Input) ingest(c *conn, body []byte) error {
	m := c.message("http")
	if !in.o.Bulk {
		if len(body) < 2 {
			return errTooShort
		}
		if !in.deliver(c, m, body) {
			return net.ErrClosed
		}
		return nil
	}
	f := &c.lines
	f.delimiter, f.max = '\n', in.o.MaxBodyBytes
	for len(body) > 0 {
		n := copy(f.room(), body)
		f.took(n)
		body = body[n:]
		if err := in.deliverLines(c, m); err != nil {
			return err
		}
	}
	return nil
}

func (in *Input) deliverLines(c *conn, m Message) error {
	for {
		line, more, err := c.lines.next()
		if err != nil || !more {
			return err
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) < 2 {
			return fmt.Errorf("bulk line: %w", errTooShort)
		}
		if !in.deliver(c, m, line) {
			return net.ErrClosed
		}
	}
}

// endLines hands over the line without line end of a connection that ended. In
// it may be the bodies of many requests, each answered with 202; only the first
// document in it counts.
func (in *Input) endLines(c *conn) {
	if !in.enter() {
		return
	}
	defer in.handlers.Done()
	in.mu.Lock()
	cut := c.cut
	in.mu.Unlock()
	if cut {
		return
	}
	if tail := c.lines.rest(); len(tail) >= 2 {
		in.o.Logf("%s: bulk body without line end: %d bytes as one message", c.RemoteAddr(), len(tail))
		in.deliver(nil, c.message("http"), tail)
	}
}
