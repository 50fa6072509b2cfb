package output

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

var (
	// errTooLarge is the answer 413.
	errTooLarge = errors.New("the receiver says that the body is too large")
	// errNoAnswer: a connection that was used before ended without a byte in answer.
	errNoAnswer = errors.New("connection closed without an answer")
)

// maxAnswerBytes bounds an answer with its header. Graylog's have no body.
const maxAnswerBytes = 16 << 10

// httpConn is a connection that requests go over, one after the other.
type httpConn struct {
	net.Conn
	answer   *bufio.Reader     // of limit
	limit    *io.LimitedReader // of Conn
	answered time.Time         // the last time; zero: never
}

// answer is what matters of a response.
type answer struct {
	status int
	after  time.Duration // Retry-After; 0 if there is none
}

// judge returns what an answer to a post means, nil for success (Graylog rule R24).
// Only 202 is what a GELF input says; whoever else says that all is well does not
// necessarily keep messages.
func (h *HTTP) judge(a answer) error {
	if a.status == http.StatusAccepted {
		return nil
	}
	if a.status == http.StatusRequestEntityTooLarge {
		return errTooLarge
	}
	err := fmt.Errorf("post to %s: answer %d %s", h.o.URL.Host, a.status, http.StatusText(a.status))
	switch {
	case a.status == http.StatusTooManyRequests, a.status == http.StatusServiceUnavailable:
		return &Held{After: a.after, Err: err}
	case a.status >= 500, a.status == http.StatusRequestTimeout:
		return err
	case a.status == http.StatusUnauthorized:
		err = fmt.Errorf("%w: it wants another token", err)
	case a.status == http.StatusNotFound:
		err = fmt.Errorf("%w: no GELF input has the path %.64q", err, h.o.URL.Path)
	default:
		err = fmt.Errorf("%w: no GELF input says that", err)
	}
	return &Held{Operator: true, After: operatorHold, Err: err}
}

// roundTrip sends a request and returns the answer.
//
// The receiver may close a connection at the moment when it is used again. Then no
// answer comes, and the request goes over a new one: the only case that can bring
// a body twice without an error.
func (h *HTTP) roundTrip(ctx context.Context, request []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, h.o.AnswerTimeout)
	defer cancel()
	if h.conn != nil && time.Since(h.conn.answered) < idleTimeout {
		if a, err := h.exchange(ctx, request); !errors.Is(err, errNoAnswer) {
			return a, err
		}
	}
	h.hangUp()
	if err := h.dial(ctx); err != nil {
		return answer{}, err
	}
	return h.exchange(ctx, request)
}

// dial opens the connection.
func (h *HTTP) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.o.DialTimeout)
	defer cancel()
	tcp, err := h.dialer.dial(ctx)
	if err != nil {
		return err
	}
	var c net.Conn = tcp
	if h.o.TLS != nil {
		if c, err = handshake(ctx, tcp, h.o.TLS, h.o.URL.Host); err != nil {
			return err
		}
	}
	limit := &io.LimitedReader{R: c}
	h.conn = &httpConn{Conn: c, limit: limit, answer: bufio.NewReader(limit)}
	return nil
}

// hangUp closes the connection if there is one.
func (h *HTTP) hangUp() {
	if h.conn != nil {
		h.conn.Close()
		h.conn = nil
	}
}

// exchange sends a request over the connection and reads the answer. The
// connection stays if it can be used again. ctx has a deadline.
func (h *HTTP) exchange(ctx context.Context, request []byte) (a answer, err error) {
	c := h.conn
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return a, fmt.Errorf("post to %s: %w", h.o.URL.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	a, reusable, err := c.exchange(request)
	if !reusable {
		h.hangUp()
	}
	if err != nil {
		return a, fmt.Errorf("post to %s: %w", h.o.URL.Host, err)
	}
	return a, nil
}

// exchange is that of HTTP; reusable is false after an error.
func (c *httpConn) exchange(request []byte) (a answer, reusable bool, err error) {
	c.limit.N = maxAnswerBytes
	_, sent := c.Write(request)
	// A receiver may answer, and close, before it has read everything: 413.
	if _, err := c.answer.Peek(1); err != nil {
		err = cmp.Or(sent, err)
		if !c.answered.IsZero() && !errors.Is(err, os.ErrDeadlineExceeded) {
			return a, false, errNoAnswer
		}
		if errors.Is(err, io.EOF) {
			err = errNoAnswer
		}
		return a, false, err
	}
	r, err := http.ReadResponse(c.answer, nil)
	for err == nil && r.StatusCode < http.StatusOK { // more follows
		r, err = http.ReadResponse(c.answer, nil)
	}
	if err != nil {
		return a, false, fmt.Errorf("read answer: %w", err)
	}
	a = answer{status: r.StatusCode, after: retryAfter(r.Header.Get("Retry-After"), time.Now())}
	_, drained := io.Copy(io.Discard, r.Body)
	c.answered = time.Now()
	return a, sent == nil && drained == nil && !r.Close && c.answer.Buffered() == 0, nil
}

// retryAfter returns how long to wait as a receiver asks (RFC 9110 section 10.2.3):
// in seconds, or up to a date. It is 0 for what is neither, and at most maxHold.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxHold)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxHold)
	}
	return 0
}
