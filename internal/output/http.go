package output

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sidecar/internal/gelf"
)

// Times and sizes of GELF over HTTP.
const (
	// DefaultMaxBodyBytes is the longest body that Graylog takes by default, before
	// compression (max_chunk_size, Graylog rule R23).
	DefaultMaxBodyBytes = 64 << 10

	defaultAnswerTimeout = 30 * time.Second
	// idleTimeout is less than the 60 seconds after which Graylog closes a
	// connection (Graylog rule R25): a request must not meet that.
	idleTimeout = 30 * time.Second
	// operatorHold is the time between two attempts while something is set wrong.
	operatorHold = 30 * time.Second
	// maxHold is the longest that a receiver may ask for.
	maxHold = 5 * time.Minute
)

// HTTPOptions configure an HTTP output.
type HTTPOptions struct {
	// URL is where to post to: scheme http or https, a host and a path, nothing
	// else. Graylog's path is /gelf, and it takes no query (Graylog rule R25).
	URL *url.URL
	// TLS is asked for the configuration of each connection, with ServerName set, if
	// the scheme is https; else it is nil.
	TLS func() (*tls.Config, error)
	// Authorization returns the value of the header of that name, which Graylog
	// compares byte for byte; "" for none. It is asked at every Connect, so that a
	// new secret is taken over. The value is in no error. Nil means none.
	Authorization func() (string, error)
	// Bulk sends as many documents in one body as fit, one in each line. The
	// receiver must have bulk receiving switched on, or it takes the first document
	// of each body only, without a word (Graylog rule R23).
	Bulk bool
	// Compression is of bodies, by Content-Encoding: NoCompression or Gzip.
	Compression Compression
	// MaxBodyBytes is the longest body before compression; 0 means
	// DefaultMaxBodyBytes.
	MaxBodyBytes int
	// Resolver says how the address of the host is found.
	Resolver Resolver
	// DialTimeout bounds connecting with the TLS handshake; 0 means 10 seconds.
	DialTimeout time.Duration
	// AnswerTimeout bounds a request from its first byte to the end of the answer; 0
	// means 30 seconds.
	AnswerTimeout time.Duration
}

// HTTP posts GELF documents, one request at a time: with more, a receiver could
// take them in another order. An answer 202 confirms what was posted (Graylog rule
// R24); 413 makes the bodies smaller. Its methods are for one goroutine.
//
// The requests are written here and not by http.Transport, because that may go on
// reading a body after it has returned, and bodies are made in the memory of the
// one before.
type HTTP struct {
	o      HTTPOptions
	events chan Event
	dialer dialer
	conn   *httpConn // nil: none is open
	limit  int       // of a body, found out by 413

	authorization string // header field with its line end, or ""

	buf    []byte // the request
	body   []byte // its body, not compressed
	shrunk []byte // the document that was too long
	packed compressor
}

// NewHTTP returns an output that is not connected.
func NewHTTP(o HTTPOptions) *HTTP {
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	o.DialTimeout = cmp.Or(o.DialTimeout, defaultDialTimeout)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, defaultAnswerTimeout)
	// One cut is pending at most, and it is confirmed when it is made.
	port := cmp.Or(o.URL.Port(), map[string]string{"http": "80", "https": "443"}[o.URL.Scheme])
	return &HTTP{o: o, dialer: newDialer(net.JoinHostPort(o.URL.Hostname(), port), o.Resolver), events: make(chan Event, 1), packed: compressor{kind: o.Compression}}
}

// Events delivers the confirmations.
func (h *HTTP) Events() <-chan Event { return h.events }

// Connect opens a connection and asks the receiver for its options, which sends
// no message and tells who does not answer, or not us. Graylog before 7.1 looks at the
// token then, later ones only when something is posted. Errors are those of Send.
func (h *HTTP) Connect(ctx context.Context) error {
	token := ""
	if h.o.Authorization != nil {
		var err error
		if token, err = h.o.Authorization(); err != nil {
			return fmt.Errorf("connect to %s: %w", h.o.URL.Host, err)
		}
	}
	if strings.ContainsAny(token, "\r\n\x00") {
		return &Held{Operator: true, After: operatorHold, Err: errors.New("the token for " + h.o.URL.Host + " has a line break in it")}
	}
	h.authorization = ""
	if token != "" {
		h.authorization = "Authorization: " + token + "\r\n"
	}
	h.limit = h.o.MaxBodyBytes
	a, err := h.roundTrip(ctx, h.request(http.MethodOptions, nil))
	if err != nil {
		return err
	}
	switch a.status {
	case http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return h.judge(a)
	}
	return nil // what a proxy thinks of OPTIONS does not matter
}

// request returns a request; it is valid until the next call. body is copied.
func (h *HTTP) request(method string, body []byte) []byte {
	encoding := ""
	if h.o.Compression == Gzip && len(body) > packetBytes {
		body, encoding = h.packed.compress(body), "Content-Encoding: gzip\r\n"
	}
	h.buf = fmt.Appendf(h.buf[:0], "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: logship\r\n%sContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n",
		method, h.o.URL.EscapedPath(), h.o.URL.Host, h.authorization, encoding, len(body))
	h.buf = append(h.buf, body...)
	return h.buf
}

// Send posts frames, which must be whole and end in NUL, and returns when all are
// taken. After an error those from the one that failed on are not.
//
// It returns a *Rejected for a document that does not fit, cut as far as can be,
// a *Held for an answer that says to wait or that something is set wrong, and any
// other error for a connection that fails or is not answered in time.
func (h *HTTP) Send(ctx context.Context, frames []byte) error {
	for len(frames) > 0 {
		n := h.next(frames)
		docs := frames[:n-1]
		err := h.post(ctx, docs)
		if errors.Is(err, errTooLarge) {
			if bytes.IndexByte(docs, 0) >= 0 { // Graylog rule R24
				h.limit = n / 2
				continue
			}
			err = h.postShortened(ctx, docs)
		}
		if err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

// next returns the length of the frames of the next request: one, or in bulk as
// many as fit, but always one.
func (h *HTTP) next(frames []byte) int {
	if h.o.Bulk {
		if n := bytes.LastIndexByte(frames[:min(h.limit, len(frames))], 0); n >= 0 {
			return n + 1
		}
	}
	return bytes.IndexByte(frames, 0) + 1
}

// post sends one request with docs, separated by NUL. errTooLarge says that they are
// more than the receiver takes at once.
func (h *HTTP) post(ctx context.Context, docs []byte) error {
	h.body = append(h.body[:0], docs...)
	if h.o.Bulk {
		for i, c := range h.body {
			if c == 0 {
				h.body[i] = '\n'
			}
		}
		// Without a line end behind the last document Graylog waits for more, and
		// loses it in the end (Graylog rule R23).
		h.body = append(h.body, '\n')
	}
	if len(h.body) > h.o.MaxBodyBytes {
		return errTooLarge
	}
	a, err := h.roundTrip(ctx, h.request(http.MethodPost, h.body))
	if err != nil {
		return err
	}
	return h.judge(a)
}

// postShortened posts a document that is too large, cut until it fits (Graylog
// rules R13, R24).
func (h *HTTP) postShortened(ctx context.Context, doc []byte) error {
	limit := h.o.MaxBodyBytes - len("\n")
	if len(doc) <= limit {
		limit = len(doc) / 2 // the receiver takes less than we think
	}
	for ; ; limit /= 2 {
		short, err := gelf.Shrink(h.shrunk[:0], doc, limit)
		if err != nil {
			return &Rejected{Frame: bytes.Clone(doc), Err: fmt.Errorf("%w: %w", errTooLarge, err)}
		}
		h.shrunk = short
		if err := h.post(ctx, short); !errors.Is(err, errTooLarge) {
			return err
		}
	}
}

// Taken implements Prompt: Send returns after the answers.
func (h *HTTP) Taken() bool { return true }

// Cut confirms everything sent so far, with an Event that is ready when it returns.
func (h *HTTP) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	h.events <- Event{Kind: Confirmed, Cut: id}
	return true, nil
}

// Abort closes the connection. Connect starts again.
func (h *HTTP) Abort() {
	h.hangUp()
	for len(h.events) > 0 {
		<-h.events
	}
}
