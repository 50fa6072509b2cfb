package probe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"sidecar/internal/health"
	"sidecar/internal/settings"
)

// What is read of an answer.
const (
	maxHeadBytes = 64 << 10
	maxBodyBytes = 256 << 10
)

// healthTypes are the content types of health documents, best first.
const healthTypes = "application/health+json, application/json, text/plain;q=0.5, */*;q=0.1"

// errTooLong is what is wrong with an answer over a limit.
var errTooLong = errors.New("the answer is too long")

// web asks one HTTP question per run, each on a connection of its own: Node closes
// idle ones after five seconds, so kept ones would break between two runs, and a new
// one also proves that new ones are accepted. So it needs no http.Transport, with
// its goroutines and buffers for each connection, and nothing follows a redirect or
// looks for a proxy.
type web struct {
	at      endpoint
	tls     *tls.Config // nil: plain
	host    string
	method  string
	request []byte // up to, without, the headers of secrets
	accept  string // content types, best first
	secrets map[string]settings.Secret
	claim   func(size int) error // see Page.Get; nil: nobody minds
}

// answer is what came back.
type answer struct {
	code     int
	header   http.Header
	body     []byte
	tooLong  bool  // the body is cut at its limit
	unpacked error // why the content encoding could not be undone
}

// newWeb takes host, path and the options socket, header.NAME, host, ca, verify and
// name of a target.
func newWeb(t *target, u *url.URL, method string) (*web, error) {
	w := &web{method: method, secrets: map[string]settings.Secret{}, host: u.Host}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		var err error
		if w.tls, err = clientTLS(t, u.Hostname()); err != nil {
			return nil, err
		}
	}
	with := *t
	with.url = &url.URL{Scheme: u.Scheme, Host: u.Host} // without a path, which is no socket
	var err error
	if w.at, err = with.endpoint(port); err != nil {
		return nil, err
	}
	w.host = t.opt.text("host", w.host)
	headers := t.opt.prefixed("header.")
	for name, ref := range headers {
		// A value that is a reference is a secret: it is read anew for each run.
		var s settings.Secret
		if err := s.UnmarshalText([]byte(ref)); err == nil {
			w.secrets[name] = s
			delete(headers, name)
		}
	}
	if u.User != nil {
		return nil, errors.New("want no user in the URL: use header.Authorization")
	}
	w.accept = healthTypes
	for name, value := range headers {
		if strings.EqualFold(name, "Accept") {
			if w.accept = value; strings.ContainsAny(value, "\r\n\x00") {
				return nil, fmt.Errorf("header %q cannot be sent", name)
			}
			delete(headers, name)
		}
	}
	w.request, err = requestHead(w.method, u.RequestURI(), w.host, headers)
	return w, err
}

// requestHead returns the head of a request without the empty line at its end.
func requestHead(method, uri, host string, headers map[string]string) ([]byte, error) {
	var b bytes.Buffer
	line := func(name, value string) error {
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || name == "" || strings.ContainsAny(value, "\r\n\x00") {
			return fmt.Errorf("header %q cannot be sent", cutText(name, 64))
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		return nil
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, uri)
	err := line("Host", host)
	for _, h := range [][2]string{{"User-Agent", "healthd"}, {"Connection", "close"}} {
		if _, given := headers[h[0]]; !given || h[0] == "Connection" {
			err = errors.Join(err, line(h[0], h[1]))
		}
	}
	for name, value := range headers {
		if strings.EqualFold(name, "Connection") || strings.EqualFold(name, "Host") || strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding") {
			return nil, fmt.Errorf("header %q is not the operator's", name)
		}
		err = errors.Join(err, line(name, value))
	}
	return b.Bytes(), err
}

// clientTLS returns how a target is spoken to over TLS.
func clientTLS(t *target, host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: t.opt.text("name", host), MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	c.InsecureSkipVerify = !t.opt.bool("verify", true)
	if ca := t.opt.text("ca", ""); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca: no certificate in %s", ca)
		}
	}
	return c, nil
}

// get asks once. It appends the body to dst, at most limit bytes of it.
func (w *web) get(ctx context.Context, dst []byte, limit int) (answer, error) {
	request := slices.Clone(w.request)
	for name, ref := range w.secrets {
		value, err := ref.Reveal()
		if err != nil {
			return answer{}, err
		}
		if strings.ContainsAny(value, "\r\n\x00") {
			return answer{}, fmt.Errorf("header %s cannot be sent: its secret has several lines", name)
		}
		request = fmt.Appendf(request, "%s: %s\r\n", name, value)
	}
	request = fmt.Appendf(request, "Accept: %s\r\n\r\n", w.accept)
	conn, err := w.at.dial(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	var stream io.ReadWriter = conn
	if w.tls != nil {
		secure := tls.Client(conn, w.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return answer{}, err
		}
		stream = secure
	}
	if _, err := stream.Write(request); err != nil {
		return answer{}, err
	}
	r := &noted{Reader: stream}
	a, err := w.readAnswer(r, dst, limit)
	if err != nil && r.err != nil {
		err = r.err // net/http and gzip tell of a malformed answer where the connection broke
	}
	return a, err
}

// noted remembers why reading ended, if not at the end.
type noted struct {
	io.Reader
	err error
}

// Read is io.Reader's.
func (n *noted) Read(p []byte) (int, error) {
	c, err := n.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return c, err
}

// readAnswer reads one answer, without interim ones (RFC 9110 section 15.2). It reads
// at most maxHeadBytes before the body, and appends at most most bytes of it to dst.
func (w *web) readAnswer(r io.Reader, dst []byte, most int) (answer, error) {
	limit := &io.LimitedReader{R: r, N: maxHeadBytes}
	br := bufio.NewReader(limit)
	var res *http.Response
	for {
		var err error
		res, err = http.ReadResponse(br, &http.Request{Method: w.method})
		if err != nil {
			if limit.N <= 0 {
				return answer{}, errTooLong
			}
			return answer{}, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	a := answer{code: res.StatusCode, header: res.Header}
	// Chunks may be of one byte each, with six around it.
	limit.N = 8 * int64(most)
	body := io.Reader(res.Body)
	if res.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(res.Body)
		if errors.Is(err, io.EOF) { // no body, as for HEAD
			return a, nil
		}
		if err != nil {
			a.unpacked = err
			return a, nil
		}
		body = z
	} else if e := res.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		a.unpacked = fmt.Errorf("its encoding %q was not asked for", cutText(e, 40))
	}
	body = io.LimitReader(body, int64(most)+1)
	if w.claim != nil {
		body = &claimed{Reader: body, claim: w.claim}
	}
	var err error
	a.body, err = appendAll(dst, body)
	switch {
	case len(a.body)-len(dst) > most, limit.N <= 0:
		a.body, a.tooLong = a.body[:min(len(a.body), len(dst)+most)], true
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		a.unpacked = err
	case err != nil:
		return a, fmt.Errorf("read the body: %w", err)
	}
	return a, nil
}

// claimed asks whether there may be as much as was read.
type claimed struct {
	io.Reader
	size  int
	claim func(size int) error
}

// Read is io.Reader's.
func (c *claimed) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.size += n; n > 0 {
		if refused := c.claim(c.size); refused != nil {
			return n, refused
		}
	}
	return n, err
}

// appendAll appends what r has to dst.
func appendAll(dst []byte, r io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, 4096) // by a part of its length, if that is more
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// httpTarget is an HTTP check.
type httpTarget struct {
	web      *web
	format   format
	path     *jsonPath // nil: format says how the body is read
	required bool      // the body has to say something
	children health.State
	codes    []int // nil: 200 to 299
	contains string
	counters *Counters
}

// httpCheck is the check of http and https.
//
// Options: format (auto, terminus, spring, ietf, aspnet, plain, none), json with pass
// and warn, children (fail, warn, ignore), status, contains, and those of newWeb.
func httpCheck(t *target) (Func, error) {
	if t.url == nil {
		return nil, errors.New("want http://host:port/path")
	}
	w, err := newWeb(t, t.url, t.opt.oneOf("method", "GET", "GET", "HEAD"))
	if err != nil {
		return nil, err
	}
	h := &httpTarget{web: w, counters: t.env.Counters, contains: t.opt.text("contains", "")}
	name := t.opt.oneOf("format", "auto", "auto", "terminus", "spring", "ietf", "aspnet", "plain", "none")
	h.format, h.required = formats()[name], name != "auto" && name != "none"
	h.children = map[string]health.State{"fail": health.Fail, "warn": health.Warn, "ignore": health.Pass}[t.opt.oneOf("children", "fail", "fail", "warn", "ignore")]
	if p := t.opt.text("json", ""); p != "" {
		steps, err := parsePath(p)
		if err != nil {
			t.opt.bad("json", err)
		}
		h.path, h.required = &jsonPath{steps: steps, pass: t.opt.list("pass", ""), warn: t.opt.list("warn", "")}, true
	}
	if w.method == "HEAD" && (h.required || h.contains != "") {
		t.opt.bad("method", errors.New("an answer to HEAD has no body to look at"))
	}
	for _, c := range t.opt.list("status", "") {
		code, err := strconv.Atoi(c)
		if err != nil || code < 100 || code > 999 {
			t.opt.bad("status", fmt.Errorf("want codes such as 200,204, found %q", cutText(c, 40)))
		}
		h.codes = append(h.codes, code)
	}
	return h.run, nil
}

func (h *httpTarget) run(ctx context.Context) health.Result {
	a, err := h.web.get(ctx, nil, maxBodyBytes)
	if errors.Is(err, errTooLong) {
		h.counters.TooLong.Add(1)
	}
	if err != nil {
		return failed(h.web.method, err)
	}
	return h.judge(a)
}

// judge tells a result of an answer. What the body says beats the status code, but a
// body that is well behind a code that is not is a warning only: whoever looks at the
// code, a load balancer say, has taken the target out.
func (h *httpTarget) judge(a answer) health.Result {
	byCode := h.byCode(a)
	if a.tooLong {
		h.counters.TooLong.Add(1)
	}
	if a.code >= 300 && a.code < 400 && !slices.Contains(h.codes, a.code) {
		h.counters.Redirects.Add(1)
		return byCode
	}
	s, err := h.read(a)
	switch {
	case errors.Is(err, errNoWord) && !h.required:
		return h.keyword(a, byCode)
	case err != nil && byCode.State == health.Fail:
		return byCode
	case err != nil:
		h.counters.Malformed.Add(1)
		r := warn("status %d, body not usable: %v", a.code, err)
		if h.required {
			r.State = health.Fail
		}
		return r
	}
	wellByCode, wellByBody := byCode.State == health.Pass, s.state == health.Pass || s.state == health.Warn
	if wellByCode != wellByBody && s.state != health.Starting {
		h.counters.StatusMismatch.Add(1)
	}
	if !wellByCode && s.state == health.Pass {
		return warn("status %d, but the body %s", a.code, s.text)
	}
	return h.keyword(a, result(s.state, "status %d, body %s", a.code, s.text))
}

func (h *httpTarget) byCode(a answer) health.Result {
	switch {
	case slices.Contains(h.codes, a.code), h.codes == nil && a.code >= 200 && a.code < 300:
		return pass("status %d", a.code)
	case a.code >= 300 && a.code < 400:
		return fail("status %d leads to %q, redirects are not followed", a.code, cutText(a.header.Get("Location"), 100))
	}
	return fail("status %d", a.code)
}

// read returns what the body says, errNoWord if nothing.
func (h *httpTarget) read(a answer) (said, error) {
	switch {
	case h.format.name == "" && h.path == nil, h.web.method == "HEAD":
		return said{}, errNoWord
	case a.unpacked != nil:
		return said{}, a.unpacked
	case a.tooLong:
		return said{}, fmt.Errorf("over %d KiB", maxBodyBytes>>10)
	case h.path != nil:
		return h.path.read(a.body)
	}
	return h.format.read(strings.ToLower(a.header.Get("Content-Type")), a.body, h.children)
}

// keyword fails a result that is well when the body lacks what it should contain.
func (h *httpTarget) keyword(a answer, r health.Result) health.Result {
	if h.contains != "" && (r.State == health.Pass || r.State == health.Warn) && !bytes.Contains(a.body, []byte(h.contains)) {
		return fail("%s; the body does not contain %q", r.Text, cutText(h.contains, 64))
	}
	return r
}
