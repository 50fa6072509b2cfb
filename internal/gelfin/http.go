package gelfin

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"sidecar/internal/budget"
	"sidecar/internal/spool"
)

// runHTTP serves requests until ctx is done, and then those that have begun.
func (l *Listener) runHTTP(ctx, storing context.Context, ln net.Listener) {
	var posts sync.RWMutex // each has it to read; it is locked for good at the end
	mux := http.NewServeMux()
	mux.HandleFunc("POST /gelf", func(w http.ResponseWriter, r *http.Request) {
		if !posts.TryRLock() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		defer posts.RUnlock()
		l.post(w, r)
	})
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: l.o.SlowTimeout, ReadTimeout: l.o.SlowTimeout, IdleTimeout: l.o.IdleTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(l.o.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return storing },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.o.StopTimeout)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(limited{ln, l})
	if !stop() {
		<-ended
	} else if !errors.Is(err, net.ErrClosed) {
		l.fail(err)
	}
	posts.Lock() // what was cut off at the end of StopTimeout may not have returned yet
}

// limited is a net.Listener that closes connections above the limit.
type limited struct {
	net.Listener
	l *Listener
}

// Accept implements net.Listener.
func (a limited) Accept() (net.Conn, error) {
	for {
		c, err := a.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a.l.enter(c) {
			return &counted{Conn: c, l: a.l}, nil
		}
		c.Close()
	}
}

// counted is a connection that gives its place back when it is closed.
type counted struct {
	net.Conn
	l     *Listener
	leave sync.Once // net/http closes more than once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.leave.Do(func() { c.l.leave(c.Conn) })
	return c.Conn.Close()
}

// post answers a request as Graylog does: 202, or 413 for what is too long; but 202 comes
// after the documents are stored, 400 for what cannot be decompressed, and 503 when they
// cannot be stored, so that the sender tries again; 408 for what did not arrive.
func (l *Listener) post(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > int64(l.o.MaxMessageBytes) {
		l.discard(ReasonTooLong, 1)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	arriving := &arrival{Reader: r.Body}
	in := bufio.NewReader(http.MaxBytesReader(w, io.NopCloser(arriving), int64(l.o.MaxMessageBytes)))
	if n := l.needs(r, in); n > budget.SmallBytes {
		memory := l.o.Budget.Claim(n)
		if memory.Take(r.Context()) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		defer memory.Give()
	}
	body, err := l.body(w, r.Header.Get("Content-Encoding"), in)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), errors.Is(err, errTooLong):
		l.discard(ReasonTooLong, 1)
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	case arriving.failed:
		l.discard(ReasonIncomplete, 1)
		w.WriteHeader(http.StatusRequestTimeout)
		return
	case err != nil:
		l.discard(ReasonCompression, 1)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	peer := []byte(nil)
	if tcp, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		peer = address(tcp)
	}
	var msgs []spool.Message
	for text := range documents(body) {
		if msgs = append(msgs, l.message(text, "http", peer)); len(msgs) < maxBatch {
			continue
		}
		if !l.store(r.Context(), msgs) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		msgs = msgs[:0]
	}
	if !l.store(r.Context(), msgs) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// arrival is a body that tells its own failures from those of decompression.
type arrival struct {
	io.Reader
	failed bool
}

// Read implements io.Reader.
func (a *arrival) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.failed = a.failed || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// needs returns how much memory a request can need. It reads no more of it than its
// first bytes.
func (l *Listener) needs(r *http.Request, in *bufio.Reader) int {
	n := l.o.MaxMessageBytes
	if r.Header.Get("Content-Encoding") != "" {
		return 2 * n // what is in there may be compressed once more
	}
	if r.ContentLength >= 0 {
		n = int(r.ContentLength)
	}
	if first, _ := in.Peek(2); compression(first) != "" { // an error comes again when the body is read
		n += l.o.MaxMessageBytes
	}
	return n
}

// body returns the body, decompressed as its Content-Encoding or its first bytes say.
func (l *Listener) body(w http.ResponseWriter, encoding string, in io.Reader) ([]byte, error) {
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(l.o.SlowTimeout)); err != nil {
		return nil, err
	}
	stream := in
	var err error
	switch encoding {
	case "", "identity":
	case "gzip":
		stream, err = gzip.NewReader(stream)
	case "deflate":
		stream, err = zlib.NewReader(stream) // RFC 9110 section 8.4.1.2: the zlib format
	default:
		err = errors.New("content encoding is not known")
	}
	if err != nil {
		return nil, err
	}
	b, err := readLimited(stream, l.o.MaxMessageBytes)
	if err != nil {
		return nil, err
	}
	return inflate(b, l.o.MaxMessageBytes)
}

// documents returns the documents of a body: itself, or, as Graylog's bulk receiving has
// it, its lines, if each of them is one.
func documents(body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		switch {
		case isBlank(body):
		case !bytes.ContainsRune(body, '\n') || json.Valid(body) || !allValid(body):
			yield(body) // whatever it is, it is shown as a whole
		default:
			for line := range bytes.Lines(body) {
				if !isBlank(line) && !yield(bytes.TrimSpace(line)) {
					return
				}
			}
		}
	}
}

// allValid reports whether each line is blank or a document.
func allValid(body []byte) bool {
	for line := range bytes.Lines(body) {
		if !isBlank(line) && !json.Valid(line) {
			return false
		}
	}
	return true
}
