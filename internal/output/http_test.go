package output_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// startHTTP runs an input with HTTP.
func startHTTP(t *testing.T, o gelftest.Options) (*gelftest.Input, *gelftest.Log) {
	t.Helper()
	o.HTTP = loopback
	return start(t, o)
}

// httpOptions returns the options for the input at address.
func httpOptions(address string) output.HTTPOptions {
	return output.HTTPOptions{URL: &url.URL{Scheme: "http", Host: address, Path: "/gelf"}}
}

// connectHTTP returns a connected output, which is aborted at the end of the test.
func connectHTTP(t *testing.T, o output.HTTPOptions) *output.HTTP {
	t.Helper()
	out := output.NewHTTP(o)
	t.Cleanup(out.Abort)
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	return out
}

// wantCut makes a cut, which is confirmed when Cut returns.
func wantCut(t *testing.T, out output.Output, id uint64) {
	t.Helper()
	if done, err := out.Cut(within(t), id, false); !done || err != nil {
		t.Fatal(done, err)
	}
	select {
	case e := <-out.Events():
		if e.Kind != output.Confirmed || e.Cut != id {
			t.Fatalf("got event %+v", e)
		}
	default:
		t.Fatal("the cut is not confirmed")
	}
}

// wantArrived waits for the messages 0 to n-1, in order, and no others.
func wantArrived(t *testing.T, log *gelftest.Log, n int) {
	t.Helper()
	if err := log.WaitFor(within(t), n); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, log, n)
}

// proxy stands between the output and an input and does what a test tells it.
type proxy struct {
	*httptest.Server
	// fault is asked first; it returns true if it has dealt with the request. It is
	// nil for none.
	fault atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	posts atomic.Int64
}

func startProxy(t *testing.T, in *gelftest.Input) *proxy {
	t.Helper()
	transport := &http.Transport{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: in.Addr("http")})
	forward.Transport = transport
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			p.posts.Add(1)
		}
		if fault := p.fault.Load(); fault == nil || !(*fault)(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		p.Server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *proxy) address() string { return strings.TrimPrefix(p.URL, "http://") }

// set makes the next n posts meet f, the others none.
func (p *proxy) set(n int64, f http.HandlerFunc) {
	var met atomic.Int64
	fault := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || met.Add(1) > n {
			return false
		}
		f(w, r)
		return true
	}
	p.fault.Store(&fault)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
}

func TestHTTP(t *testing.T) {
	k := newKeys(t)
	for _, tt := range []struct {
		name string
		in   gelftest.Options
		out  output.HTTPOptions
	}{
		{"single", gelftest.Options{}, output.HTTPOptions{}},
		{"single, gzip", gelftest.Options{}, output.HTTPOptions{Compression: output.Gzip}},
		{"bulk", gelftest.Options{Bulk: true}, output.HTTPOptions{Bulk: true}},
		{"bulk, gzip", gelftest.Options{Bulk: true}, output.HTTPOptions{Bulk: true, Compression: output.Gzip}},
		{"bulk, TLS", gelftest.Options{Bulk: true, TLS: k.server()}, output.HTTPOptions{Bulk: true, TLS: always(k.client())}},
		{"bulk to less", gelftest.Options{Bulk: true, MaxBodyBytes: 8 << 10}, output.HTTPOptions{Bulk: true, MaxBodyBytes: 8 << 10}},
		{"token", gelftest.Options{AuthHeader: "Authorization", AuthValue: "s3cret"},
			output.HTTPOptions{Authorization: func() (string, error) { return "s3cret", nil }}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, log := startHTTP(t, tt.in)
			o := tt.out
			o.URL = httpOptions(in.Addr("http")).URL
			if o.TLS != nil {
				o.URL.Scheme = "https"
			}
			out := connectHTTP(t, o)
			for i := range 3 {
				send(t, out, frames(i*500, (i+1)*500))
				wantCut(t, out, uint64(i+1))
			}
			wantArrived(t, log, 1500)
			if _, conns := in.Conns(); conns != 1 {
				t.Errorf("%d connections, want one for all requests", conns)
			}
		})
	}
}

// TestHTTPBodies: a body is as long as it may be and no longer, and ends in a line
// end in bulk.
func TestHTTPBodies(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		var bodies []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				b, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(b))
			}
			if r.URL.Path != "/gelf" || r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" {
				t.Errorf("request %s %v", r.URL, r.Header)
			}
			w.WriteHeader(http.StatusAccepted)
		}))
		defer server.Close()
		o := httpOptions(strings.TrimPrefix(server.URL, "http://"))
		o.Bulk, o.MaxBodyBytes = bulk, 16<<10
		out := connectHTTP(t, o)
		all := frames(0, 1000)
		send(t, out, all)
		out.Abort()
		want := strings.ReplaceAll(string(all), "\x00", "\n")
		if !bulk {
			want = strings.ReplaceAll(string(all), "\x00", "")
		}
		if strings.Join(bodies, "") != want {
			t.Errorf("bulk %v: the bodies do not hold the documents", bulk)
		}
		for i, b := range bodies {
			// The documents have about 50 bytes, so that a full body lacks less than that.
			if full := len(b) > 16<<10-64; bulk && (len(b) > 16<<10 || !strings.HasSuffix(b, "}\n") || !full && i < len(bodies)-1) {
				t.Errorf("body %d of %d has %d bytes and ends in %q", i, len(bodies), len(b), b[len(b)-2:])
			}
		}
		if !bulk && len(bodies) != 1000 {
			t.Errorf("%d bodies, want one for each document", len(bodies))
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	in, log := startHTTP(t, gelftest.Options{})
	p := startProxy(t, in)
	retry := func(code int, after string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(code)
		}
	}
	for _, tt := range []struct {
		name  string
		fault http.HandlerFunc
		held  *output.Held // nil: any other error
		text  string
	}{
		{"429", status(429), &output.Held{}, "429 Too Many Requests"},
		{"503", status(503), &output.Held{}, "503 Service Unavailable"},
		{"503 with seconds", retry(503, "17"), &output.Held{After: 17 * time.Second}, "503"},
		{"503 with too many", retry(503, "86400"), &output.Held{After: 5 * time.Minute}, "503"},
		{"503 with the past", retry(503, "Fri, 20 Nov 2015 07:28:00 GMT"), &output.Held{}, "503"},
		{"503 with the far future", retry(503, "Fri, 20 Nov 2099 07:28:00 GMT"), &output.Held{After: 5 * time.Minute}, "503"},
		{"503 with garbage", retry(503, "-1"), &output.Held{}, "503"},
		{"500", status(500), nil, "500 Internal Server Error"},
		{"502", status(502), nil, "502"},
		{"408", status(408), nil, "408"},
		{"200", status(200), &output.Held{Operator: true, After: 30 * time.Second}, "no GELF input says that"},
		{"301", status(301), &output.Held{Operator: true, After: 30 * time.Second}, "301"},
		{"400", status(400), &output.Held{Operator: true, After: 30 * time.Second}, "400"},
		{"401", status(401), &output.Held{Operator: true, After: 30 * time.Second}, "another token"},
		{"404", status(404), &output.Held{Operator: true, After: 30 * time.Second}, `"/gelf"`},
		{"405", status(405), &output.Held{Operator: true, After: 30 * time.Second}, "405"},
		{"reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, "without an answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := connectHTTP(t, httpOptions(p.address()))
			before := p.posts.Load()
			p.set(2, tt.fault) // a connection that ends is tried once more
			err := out.Send(within(t), frames(0, 2))
			var held *output.Held
			if errors.As(err, &held) != (tt.held != nil) || held != nil && (held.After != tt.held.After || held.Operator != tt.held.Operator) {
				t.Errorf("got %#v, want %#v", held, tt.held)
			}
			if err == nil || !strings.Contains(err.Error(), tt.text) || errors.As(err, new(*output.Rejected)) {
				t.Errorf("got %v, want %q in it", err, tt.text)
			}
			if n := p.posts.Load() - before; n > 2 {
				t.Errorf("%d posts, want none behind the one that failed", n)
			}
			p.set(0, nil)
			send(t, out, frames(0, 1)) // it goes on without Abort, too
		})
	}
	if err := log.WaitFor(within(t), 17); err != nil || len(log.Messages()) != 17 {
		t.Errorf("%d messages, %v; want that of each case", len(log.Messages()), err)
	}
}

func TestHTTPTooLarge(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		t.Run(fmt.Sprint("bulk ", bulk), func(t *testing.T) {
			whole := gelftest.NewLog()
			in, _ := startHTTP(t, gelftest.Options{Bulk: bulk, MaxBodyBytes: 20 << 10, Sink: whole.Add})
			o := httpOptions(in.Addr("http"))
			o.Bulk, o.Compression = bulk, output.Gzip
			out := connectHTTP(t, o)
			document := func(n int) []byte {
				return []byte(`{"version":"1.1","host":"h","short_message":"m","level":6,"full_message":"` + strings.Repeat("x", n) + `"}` + "\x00")
			}
			// Many that are small, one that fits us only, one that fits nobody, and small ones again.
			all := slices.Concat(frames(0, 700), document(30<<10), document(100<<10), frames(700, 900))
			send(t, out, all)
			out.Abort()
			if err := whole.WaitFor(within(t), 902); err != nil {
				t.Fatal(err)
			}
			got := whole.Messages()
			for i, r := range got {
				if cut := bytes.Contains(r.Raw, []byte(`"_truncated":"true"`)); cut != (i == 700 || i == 701) {
					t.Errorf("message %d of %d bytes: cut is %v", i, len(r.Raw), cut)
				}
			}
			// Not less of it than needed: half of what was refused.
			if n := len(got[700].Raw); n < 14<<10 || n > 20<<10 {
				t.Errorf("the first is cut to %d bytes", n)
			}
			if n := len(got[701].Raw); n < 14<<10 || n > 20<<10 {
				t.Errorf("the second is cut to %d bytes", n)
			}
		})
	}
}

// TestHTTPHalves: a receiver that takes less than we think is found out in a few
// steps, and only once.
func TestHTTPHalves(t *testing.T) {
	taken, refused := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost:
		case len(b) > 5000:
			refused++
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		default:
			taken += bytes.Count(b, []byte("\n"))
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer server.Close()
	o := httpOptions(strings.TrimPrefix(server.URL, "http://"))
	o.Bulk = true
	out := connectHTTP(t, o)
	send(t, out, frames(0, 3000)) // three times as much as we think
	if taken != 3000 || refused != 4 {
		t.Errorf("%d documents are taken after %d refusals, want 3000 after 4: 64, 32, 16 and 8 KiB", taken, refused)
	}
}

// TestHTTPRejected: what cannot be cut small enough is handed back, and what is
// before it is taken.
func TestHTTPRejected(t *testing.T) {
	in, log := startHTTP(t, gelftest.Options{MaxBodyBytes: 100})
	out := connectHTTP(t, httpOptions(in.Addr("http")))
	poison := `{"version":"1.1","host":"h","short_message":"` + strings.Repeat("x", 100) + `"}`
	buffer := slices.Concat(frames(0, 3), []byte(poison+"\x00"), frames(3, 4))
	err := out.Send(within(t), buffer)
	var rejected *output.Rejected
	if !errors.As(err, &rejected) || string(rejected.Frame) != poison {
		t.Fatalf("got %v", err)
	}
	clear(buffer)
	if string(rejected.Frame) != poison {
		t.Error("the frame is not a copy")
	}
	send(t, out, frames(3, 4))
	wantArrived(t, log, 4)
}

// TestHTTPStaleConnection: a connection that the receiver has closed meanwhile is no
// failure, as it would be with TCP.
func TestHTTPStaleConnection(t *testing.T) {
	for name, end := range map[string]func(*gelftest.Input){"closed": (*gelftest.Input).HangUp, "reset": (*gelftest.Input).Reset} {
		t.Run(name, func(t *testing.T) {
			in, log := startHTTP(t, gelftest.Options{})
			out := connectHTTP(t, httpOptions(in.Addr("http")))
			for i := range 5 {
				send(t, out, frames(i, i+1))
				wantArrived(t, log, i+1) // 202 comes before
				end(in)
			}
		})
	}
}

// TestHTTPHangs: whatever hangs ends the request in time, and what was taken is known.
func TestHTTPHangs(t *testing.T) {
	answer := func(text string) func(net.Conn) {
		return func(c net.Conn) { io.WriteString(c, text) }
	}
	for _, tt := range []struct {
		name  string
		serve func(net.Conn) // what is said to the first post
		taken bool
		text  string // in the error
	}{
		{"in the body of the request", func(net.Conn) {}, false, "i/o timeout"},
		{"in the header of the answer", answer("HTTP/1.1 202 Acc"), false, "i/o timeout"},
		{"after 100", answer("HTTP/1.1 100 Continue\r\n\r\n"), false, "i/o timeout"},
		{"in the body of the answer", answer("HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nok"), true, ""},
		{"endless header", answer("HTTP/1.1 202 Accepted\r\n" + strings.Repeat("X: y\r\n", 1<<15)), false, "malformed MIME header line"}, // the last that is read
		{"endless body", answer("HTTP/1.1 202 Accepted\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1<<18)), true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", loopback)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				b := bufio.NewReaderSize(c, 16)
				options, err := http.ReadRequest(b)
				if err != nil || options.Method != http.MethodOptions {
					t.Errorf("got %v, %v", options, err)
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				if _, err := http.ReadRequest(b); err != nil { // and not its body
					t.Error(err)
				}
				tt.serve(c)
				io.Copy(io.Discard, c) // until the output gives up
			}()
			t.Cleanup(func() { l.Close(); <-done })
			o := httpOptions(l.Addr().String())
			o.AnswerTimeout = 100 * time.Millisecond
			out := connectHTTP(t, o)
			err = out.Send(within(t), frames(0, 1))
			if (err == nil) != tt.taken || err != nil && !strings.Contains(err.Error(), tt.text) || errors.As(err, new(*output.Held)) {
				t.Errorf("got %v, want taken %v or %q", err, tt.taken, tt.text)
			}
		})
	}
}

func TestHTTPSendStopsWithContext(t *testing.T) {
	in, _ := startHTTP(t, gelftest.Options{})
	out := connectHTTP(t, httpOptions(in.Addr("http")))
	in.Stall()
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	if err := out.Send(ctx, frames(0, 1)); err == nil {
		t.Error("no error")
	}
}

func TestHTTPConnect(t *testing.T) {
	const secret = "s3cret"
	in, log := startHTTP(t, gelftest.Options{AuthHeader: "Authorization", AuthValue: secret})
	p := startProxy(t, in)
	o := httpOptions(p.address())
	token := "wrong-" + secret
	var tokenErr error
	o.Authorization = func() (string, error) { return token, tokenErr }
	out := output.NewHTTP(o)
	defer out.Abort()

	if err := out.Send(within(t), frames(0, 1)); err == nil {
		t.Error("sent without Connect")
	}
	for _, tt := range []struct {
		code int
		ok   bool
	}{{200, true}, {401, false}, {403, true}, {404, true}, {405, true}, {429, false}, {500, true}, {501, true}, {502, false}, {503, false}, {504, false}} {
		fault := func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(tt.code)
			return r.Method == http.MethodOptions
		}
		p.fault.Store(&fault)
		if err := out.Connect(within(t)); (err == nil) != tt.ok {
			t.Errorf("OPTIONS is answered with %d: %v", tt.code, err)
		}
		out.Abort()
	}
	p.fault.Store(nil)

	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	err := out.Send(within(t), frames(0, 1))
	var held *output.Held
	if !errors.As(err, &held) || !held.Operator || strings.Contains(err.Error(), secret) {
		t.Fatalf("got %v", err)
	}
	for _, bad := range []string{secret + "\r\nX: y", secret + "\n", secret + "\x00"} {
		token = bad
		if err := out.Connect(within(t)); !errors.As(err, &held) || strings.Contains(err.Error(), secret) {
			t.Errorf("got %v", err)
		}
	}
	tokenErr = errors.New("read secret")
	if err := out.Connect(within(t)); !errors.Is(err, tokenErr) {
		t.Errorf("got %v", err)
	}
	// A new one is taken over by the next Connect.
	token, tokenErr = secret, nil
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	send(t, out, frames(0, 1))
	wantArrived(t, log, 1)

	in.RefuseNew()
	p.Server.Close()
	out.Abort()
	if err := out.Connect(within(t)); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

// TestHTTPGzip: what fits one packet is not worth it.
func TestHTTPGzip(t *testing.T) {
	var encodings []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		encodings = append(encodings, fmt.Sprint(r.Method, r.Header["Content-Encoding"], r.ContentLength < 1000))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	o := httpOptions(strings.TrimPrefix(server.URL, "http://"))
	o.Compression = output.Gzip
	out := connectHTTP(t, o)
	document := func(n int) []byte {
		head := `{"version":"1.1","host":"h","short_message":"`
		return []byte(head + strings.Repeat("x", n-len(head)-2) + `"}` + "\x00")
	}
	send(t, out, slices.Concat(document(1420), document(1421)))
	if got, want := strings.Join(encodings, " "), "OPTIONS[] true POST[] false POST[gzip] true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
