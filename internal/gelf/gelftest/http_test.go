package gelftest

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func dialTLS(t *testing.T, in *Input, config *tls.Config) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", in.Addr("tcp"), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// request writes a request as it is and returns the status of the answer.
func request(t *testing.T, c net.Conn, head, body string) int {
	t.Helper()
	send(t, c, head+"\r\nHost: x\r\n"+fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))+body)
	return answer(t, c)
}

func answer(t *testing.T, c net.Conn) int {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentLength != 0 {
		t.Errorf("answer has a body of %d", r.ContentLength)
	}
	return r.StatusCode
}

func post(t *testing.T, c net.Conn, uri, body string) int {
	t.Helper()
	return request(t, c, "POST "+uri+" HTTP/1.1", body)
}

func TestHTTPStatus(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback})
	for _, tt := range []struct {
		name, head, body string
		want             int
	}{
		{"POST /gelf", "POST /gelf HTTP/1.1", doc("a"), 202},
		{"garbage", "POST /gelf HTTP/1.1", "garbage", 202},
		{"empty body", "POST /gelf HTTP/1.1", "", 202},
		{"no short_message", "POST /gelf HTTP/1.1", "{}", 202},
		{"OPTIONS", "OPTIONS /gelf HTTP/1.1", "", 200},
		{"query", "POST /gelf?x=1 HTTP/1.1", doc("x"), 404},
		{"other path", "POST /gelf/ HTTP/1.1", doc("x"), 404},
		{"root", "POST / HTTP/1.1", doc("x"), 404},
		{"GET", "GET /gelf HTTP/1.1", "", 405},
		{"GET elsewhere", "GET /x HTTP/1.1", "", 405},
		{"PUT", "PUT /gelf HTTP/1.1", doc("x"), 405},
		{"limit", "POST /gelf HTTP/1.1", doc("limit") + strings.Repeat(" ", MaxBodyBytes-len(doc("limit"))), 202},
		{"limit+1", "POST /gelf HTTP/1.1", doc("x") + strings.Repeat(" ", MaxBodyBytes-len(doc("x"))+1), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := request(t, dial(t, in, "http"), tt.head, tt.body); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	waitFor(t, l, 2)
	wantMessages(t, l, "a limit")
}

func TestHTTPAuthorization(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback, AuthHeader: "Authorization", AuthValue: "Bearer Secret"})
	for _, tt := range []struct {
		header string
		want   int
	}{
		{"X: y", 401}, {"Authorization:", 401}, {"Authorization: Bearer secret", 401}, {"Authorization: Bearer Secret2", 401},
		{"authorization: Bearer Secret", 202},
	} {
		if got := request(t, dial(t, in, "http"), "POST /gelf HTTP/1.1\r\n"+tt.header, doc(tt.header)); got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.header, got, tt.want)
		}
	}
	if got := request(t, dial(t, in, "http"), "OPTIONS /gelf HTTP/1.1", ""); got != 200 {
		t.Errorf("OPTIONS: got %d", got)
	}
	waitFor(t, l, 1)
	wantMessages(t, l, "authorization: Bearer Secret")
}

func TestHTTPExpectContinue(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback})
	c := dial(t, in, "http")
	send(t, c, fmt.Sprintf("POST /gelf HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", MaxBodyBytes+1))
	if got := answer(t, c); got != 413 {
		t.Errorf("got %d, want 413 before the body is sent", got)
	}
	if n := len(l.Messages()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

func TestHTTPChunkedTransfer(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback})
	c := dial(t, in, "http")
	body := doc("chunked")
	send(t, c, fmt.Sprintf("POST /gelf HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
		10, body[:10], len(body)-10, body[10:]))
	if got := answer(t, c); got != 202 {
		t.Errorf("got %d", got)
	}
	waitFor(t, l, 1)
}

// compressed returns s through the writer that make makes.
func compressed(t *testing.T, s string, make func(io.Writer) io.WriteCloser) string {
	t.Helper()
	var b bytes.Buffer
	w := make(&b)
	send(t, w, s)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gzipWriter(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
func zlibWriter(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }
func flateWriter(w io.Writer) io.WriteCloser {
	f, err := flate.NewWriter(w, flate.BestSpeed)
	if err != nil {
		panic(err)
	}
	return f
}

func TestHTTPContentEncoding(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback})
	for _, tt := range []struct {
		name, encoding string
		writer         func(io.Writer) io.WriteCloser
	}{
		{"gzip", "gzip", gzipWriter}, {"zlib", "deflate", zlibWriter}, {"raw deflate", "deflate", flateWriter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(l.Messages())
			head := "POST /gelf HTTP/1.1\r\nContent-Encoding: " + tt.encoding
			if got := request(t, dial(t, in, "http"), head, compressed(t, doc("x"), tt.writer)); got != 202 {
				t.Errorf("got %d", got)
			}
			waitFor(t, l, before+1)
			bomb := doc("x") + strings.Repeat(" ", MaxBodyBytes)
			if got := request(t, dial(t, in, "http"), head, compressed(t, bomb, tt.writer)); got != 413 {
				t.Errorf("%d bytes decompressed: got %d, want 413", len(bomb), got)
			}
			c := dial(t, in, "http")
			send(t, c, head+"\r\nHost: x\r\nContent-Length: 3\r\n\r\n\xff\xff\xff")
			wantEOF(t, c)
		})
	}
}

func TestHTTPBodyCompressedAsGELF(t *testing.T) {
	for _, tt := range []struct {
		name   string
		bulk   bool
		writer func(io.Writer) io.WriteCloser
		want   string
	}{
		{"gzip", false, gzipWriter, "x y"}, {"zlib", false, zlibWriter, "x y"},
		{"gzip in bulk", true, gzipWriter, "y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, l := startLog(t, Options{HTTP: loopback, Bulk: tt.bulk})
			c := dial(t, in, "http")
			if got := post(t, c, "/gelf", compressed(t, doc("x"), tt.writer)+"\n"); got != 202 {
				t.Errorf("got %d", got)
			}
			if got := post(t, dial(t, in, "http"), "/gelf", doc("y")+"\n"); got != 202 {
				t.Errorf("got %d", got)
			}
			waitFor(t, l, len(strings.Fields(tt.want)))
			for _, r := range l.Messages() {
				if !strings.Contains(tt.want, r.Values[0]) {
					t.Errorf("got %q, want %s", r.Values, tt.want)
				}
			}
		})
	}
}

func TestHTTPBulkLines(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback, Bulk: true})
	c := dial(t, in, "http")
	if got := post(t, c, "/gelf", doc("a")+"\n"+doc("b")+"\r\ngarbage\n"+doc("c")+"\n"); got != 202 {
		t.Errorf("got %d", got)
	}
	waitFor(t, l, 3)
	wantMessages(t, l, "a b c")
	if n := len(l.Others()); n != 1 {
		t.Errorf("%d messages refused", n)
	}
}

func TestHTTPSingleIgnoresLinesWithoutBulk(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback})
	if got := post(t, dial(t, in, "http"), "/gelf", doc("a")+"\n"+doc("b")+"\n"); got != 202 {
		t.Errorf("got %d", got)
	}
	waitFor(t, l, 1)
	wantMessages(t, l, "a")
}

// TestHTTPBulkKeepAliveLosesMessages is the measured 10 times 202 of which one
// message is indexed, and the way out.
func TestHTTPBulkKeepAliveLosesMessages(t *testing.T) {
	for _, tt := range []struct{ name, end, want string }{
		{"without line end", "", "0"},
		{"with line end", "\n", sequence(10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, l := startLog(t, Options{HTTP: loopback, Bulk: true})
			c := dial(t, in, "http")
			for i := range 10 {
				if got := post(t, c, "/gelf", doc(fmt.Sprint(i))+tt.end); got != 202 {
					t.Errorf("got %d", got)
				}
			}
			halfClose(t, c)
			wantEOF(t, c)
			waitFor(t, l, len(strings.Fields(tt.want)))
			wantMessages(t, l, tt.want)
		})
	}
}

func TestHTTPBulkBadLineCloses(t *testing.T) {
	for _, tt := range []struct{ name, body string }{
		{"empty line", "\n"},
		{"overflow over two bodies", strings.Repeat("x", 60)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := startLog(t, Options{HTTP: loopback, Bulk: true, MaxBodyBytes: 100})
			c := dial(t, in, "http")
			if got := post(t, c, "/gelf", tt.body); got != 202 {
				t.Errorf("got %d", got)
			}
			if tt.body != "\n" {
				if got := post(t, c, "/gelf", tt.body); got != 202 {
					t.Errorf("got %d", got)
				}
			}
			wantEOF(t, c)
		})
	}
}

func TestHTTPIdleClose(t *testing.T) {
	in, _ := startLog(t, Options{HTTP: loopback, IdleTimeout: moment})
	c := dial(t, in, "http")
	if got := post(t, c, "/gelf", doc("a")); got != 202 {
		t.Errorf("got %d", got)
	}
	wantEOF(t, c)
}

func TestHTTPWithTLS(t *testing.T) {
	server, config := tlsConfigs(t)
	in, l := startLog(t, Options{HTTP: loopback, TLS: server})
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: waitLimit}
	r, err := client.Post("https://"+in.Addr("http")+"/gelf", "application/json", strings.NewReader(doc("a")))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 202 || r.ProtoMajor != 1 {
		t.Errorf("got %s %s", r.Proto, r.Status)
	}
	waitFor(t, l, 1)
}

func TestHTTPStallAndReset(t *testing.T) {
	in, l := startLog(t, Options{HTTP: loopback})
	c := dial(t, in, "http")
	if got := post(t, c, "/gelf", doc("a")); got != 202 {
		t.Errorf("got %d", got)
	}
	waitFor(t, l, 1)
	in.Stall()
	send(t, c, fmt.Sprintf("POST /gelf HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(doc("b")), doc("b")))
	wantOpen(t, c)
	in.Resume()
	if got := answer(t, c); got != 202 {
		t.Errorf("got %d", got)
	}
	waitFor(t, l, 2)
	in.Reset()
	wantReset(t, c)
	wantMessages(t, l, "a b")
	if open, _ := in.Conns(); open != 0 {
		t.Errorf("%d connections open", open)
	}
	_ = c.SetDeadline(time.Time{})
}
