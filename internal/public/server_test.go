package public_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidecar/internal/health"
	"sidecar/internal/public"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func loopback(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// healthy is a Handler that answers 200, with the clock of the machine.
func healthy(t testing.TB) *public.Handler {
	t.Helper()
	tree, err := health.New(time.Now(), []health.Node{leaf("n", "App")})
	if err != nil {
		t.Fatal(err)
	}
	tree.Observe("n", time.Now(), health.Result{State: health.Pass})
	h := public.New(public.Options{MaxAge: time.Hour})
	h.Publish(tree.Snapshot(time.Now()))
	return h
}

// serve serves h until the test, or what is returned, ends.
func serve(t testing.TB, o public.ServerOptions, listeners ...net.Listener) (*public.Server, func()) {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := public.NewServer(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listeners...) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func dial(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// exchange sends a request as it is and returns all that comes until the end.
func exchange(t testing.TB, c net.Conn, request string) string {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheSameEverywhere: TCP over both families and a unix socket, both versions of
// HTTP, the same bytes but for the date.
func TestTheSameEverywhere(t *testing.T) {
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	listeners := []net.Listener{loopback(t, "127.0.0.1:0"), loopback(t, "[::1]:0"), unix}
	serve(t, public.ServerOptions{Handler: healthy(t)}, listeners...)
	const answer = `{"status":"pass","summary":"ALL-OK","up":true,"parts":[{"n":"App","s":"up"}]}` + "\n"
	for _, l := range listeners {
		for _, tt := range []struct{ request, status, closing, body string }{
			{"GET /health HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK", "Connection: close\r\n", answer},
			{"GET /health HTTP/1.0\r\nConnection: close\r\n\r\n", "HTTP/1.0 200 OK", "Connection: close\r\n", answer},
			{"HEAD /health HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK", "Connection: close\r\n", ""},
			{"GET /health/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK", "Connection: close\r\n", answer},
			{"HEAD /health/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK", "Connection: close\r\n", ""},
			{"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAccept-Encoding: gzip, br\r\nRange: bytes=0-1\r\n\r\n", "HTTP/1.1 200 OK", "Connection: close\r\n", answer},
			{"GET http://h/health?a=b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK", "Connection: close\r\n", answer},
			{"GET /health HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK", "Connection: close\r\n", answer},
		} {
			head, body, _ := strings.Cut(exchange(t, dial(t, l), tt.request), "\r\n\r\n")
			lines := strings.SplitAfter(head+"\r\n", "\r\n")
			var rest []string
			for _, line := range lines[1:] {
				if !strings.HasPrefix(line, "Date: ") && line != "" {
					rest = append(rest, line)
				}
			}
			want := fmt.Sprint([]string{"Cache-Control: no-store\r\n", tt.closing, fmt.Sprintf("Content-Length: %d\r\n", len(answer)), "Content-Type: application/health+json\r\n"})
			// net/http puts Connection last.
			want2 := fmt.Sprint([]string{"Cache-Control: no-store\r\n", fmt.Sprintf("Content-Length: %d\r\n", len(answer)), "Content-Type: application/health+json\r\n", tt.closing})
			if lines[0] != tt.status+"\r\n" || body != tt.body || fmt.Sprint(rest) != want && fmt.Sprint(rest) != want2 {
				t.Errorf("%v %q: %q %q %q", l.Addr(), tt.request, lines[0], rest, body)
			}
		}
	}
}

// TestNothingRedirects: a redirect, or anything else but a plain answer, is an outage
// to a monitor.
func TestNothingRedirects(t *testing.T) {
	l := loopback(t, "127.0.0.1:0")
	serve(t, public.ServerOptions{Handler: healthy(t)}, l)
	for request, want := range map[string]string{
		"GET //health HTTP/1.1\r\nHost: h\r\n":                        "404",
		"GET /health/../health HTTP/1.1\r\nHost: h\r\n":               "404",
		"GET /health%2e HTTP/1.1\r\nHost: h\r\n":                      "404",
		"GET /%68ealth HTTP/1.1\r\nHost: h\r\n":                       "200",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n":                           "405",
		"PRI * HTTP/2.0\r\nHost: h\r\n":                               "405",
		"GET /health HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n": "200",
		"GET /health HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n":         "200",
		// An answer is that of now, whole, and in its own words, whatever is asked for.
		"GET /health HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n":                                 "200",
		"GET /health HTTP/1.1\r\nHost: h\r\nIf-Modified-Since: Fri, 20 Nov 2099 12:00:00 GMT\r\n": "200",
		"GET /health HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n":                                 "200",
		"GET /health HTTP/1.1\r\nHost: h\r\nAccept: text/html;q=0, image/png\r\n":                 "200",
		"GET /health HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 7<<10) + "\r\n":            "200",
		"GET /health HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 8<<10) + "\r\n":            "431",
	} {
		got := exchange(t, dial(t, l), request+"Connection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+want+" ") && !strings.HasPrefix(got, "HTTP/1.0 "+want+" ") {
			t.Errorf("%.80q: %.80q, want %s", request, got, want)
		}
	}
}

// pipes is a listener without a network, for virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestSlowClients: who sends, reads or waits too slowly is left.
func TestSlowClients(t *testing.T) {
	for _, tt := range []struct {
		name  string
		send  string // at once
		drip  string // one byte a second
		read  bool
		after time.Duration // the connection is closed
	}{
		{"says nothing", "", "", true, 3 * time.Second},
		{"headers that never end", "GET /health HTTP/1.1\r\nHost: h\r\nX: ", strings.Repeat("x", 100), true, 3 * time.Second},
		{"silence after the answer", "GET /health HTTP/1.1\r\nHost: h\r\n\r\n", "", true, 60 * time.Second},
		{"does not read", "GET /health HTTP/1.1\r\nHost: h\r\n\r\n", "", false, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				s, stop := serve(t, public.ServerOptions{Handler: healthy(t)}, l)
				c := l.dial()
				begin := time.Now()
				if _, err := io.WriteString(c, tt.send); err != nil {
					t.Fatal(err)
				}
				if tt.read {
					go func() { _, _ = io.Copy(io.Discard, c) }()
				}
				for i := range tt.drip {
					time.Sleep(time.Second) // virtual
					if _, err := io.WriteString(c, tt.drip[i:i+1]); err != nil {
						break
					}
				}
				if tt.drip == "" {
					time.Sleep(tt.after - 1)
					synctest.Wait()
					if open, _ := s.Conns(); open != 1 {
						t.Error("closed too early")
					}
					time.Sleep(time.Nanosecond)
				}
				synctest.Wait()
				if open, _ := s.Conns(); open != 0 || time.Since(begin) > tt.after+2*time.Second {
					t.Errorf("%d open after %v", open, time.Since(begin))
				}
				c.Close()
				stop()
			})
		})
	}
}

// TestTenThousandIdleConnections: they cost a bounded number of connections, and
// monitors are answered at once.
func TestTenThousandIdleConnections(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const most = public.DefaultMaxConns
	n := min(10_000, int(limit.Cur)-most-200)
	if n < 5*most {
		t.Fatalf("only %d files may be open", limit.Cur)
	}
	l := loopback(t, "127.0.0.1:0")
	s, _ := serve(t, public.ServerOptions{Handler: healthy(t)}, l)
	monitor := dial(t, l)
	lines := bufio.NewReader(monitor)
	ask := func() {
		t.Helper()
		if _, err := io.WriteString(monitor, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(lines, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != 200 {
			t.Fatal(r.StatusCode, err)
		}
	}
	for i := range n {
		c := dial(t, l)
		if i%3 == 0 {
			if _, err := io.WriteString(c, "GET /health HTTP/1.1\r\n"); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
		}
		if i%(most/8) == 0 || i == n-1 {
			// A new monitor is answered; by then all those before it have been accepted. One
			// that keeps its connection and uses it keeps its place too.
			if got := exchange(t, dial(t, l), "GET /health.txt HTTP/1.0\r\n\r\n"); !strings.HasSuffix(got, "\r\n\r\nALL-OK status=pass up=true\n") {
				t.Fatalf("a new monitor gets %q", got)
			}
			ask()
		}
	}
	if open, evicted := s.Conns(); open > most || evicted < uint64(n-2*most) { // some end by themselves
		t.Errorf("%d open, %d evicted", open, evicted)
	}
}

// TestStopAnswersWhatWasAccepted: a connection that is accepted as the end comes gets
// its answer, and one in the queue of the socket is left to the next process.
func TestStopAnswersWhatWasAccepted(t *testing.T) {
	for range 20 {
		l := loopback(t, "127.0.0.1:0")
		f, err := l.(*net.TCPListener).File() // as systemd keeps it
		if err != nil {
			t.Fatal(err)
		}
		_, stop := serve(t, public.ServerOptions{Handler: healthy(t)}, l)
		answers := make(chan string, 50)
		var conns []net.Conn
		for range cap(answers) {
			conns = append(conns, dial(t, l))
		}
		for _, c := range conns {
			go func() {
				_, err := io.WriteString(c, "GET /health.txt HTTP/1.0\r\n\r\n")
				b, readErr := io.ReadAll(c)
				answers <- fmt.Sprint(string(b[max(0, len(b)-27):]), err, readErr)
			}()
		}
		stop()
		next, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		_, stopNext := serve(t, public.ServerOptions{Handler: healthy(t)}, next)
		for range conns {
			if got := <-answers; got != "ALL-OK status=pass up=true\n<nil> <nil>" && got != "ALL-OK status=pass up=true\n <nil> <nil>" {
				t.Fatalf("got %q", got)
			}
		}
		stopNext()
	}
}

// TestStopOfAnIdleServer: connections that stay open between requests do not delay it.
func TestStopOfAnIdleServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		_, stop := serve(t, public.ServerOptions{Handler: healthy(t)}, l)
		c := l.dial()
		go func() { _, _ = io.WriteString(c, "GET /health HTTP/1.1\r\nHost: h\r\n\r\n") }()
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, c) }()
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

// lastMoment is a listener that has one more connection when it is closed.
type lastMoment struct {
	*pipes
	conn chan net.Conn // of one
}

func (l *lastMoment) Accept() (net.Conn, error) {
	c, err := l.pipes.Accept()
	if err != nil {
		select {
		case c := <-l.conn:
			return c, nil
		default:
		}
	}
	return c, err
}

func TestAcceptedAtTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lastMoment{newPipes(), make(chan net.Conn, 1)}
		_, stop := serve(t, public.ServerOptions{Handler: healthy(t)}, l)
		client, server := net.Pipe()
		l.conn <- server
		answer := make(chan string)
		go func() {
			_, _ = io.WriteString(client, "GET /health.txt HTTP/1.0\r\n\r\n")
			b, _ := io.ReadAll(client)
			answer <- string(b)
		}()
		synctest.Wait()
		go stop()
		if got := <-answer; !strings.HasSuffix(got, "up=true\n") {
			t.Errorf("got %q", got)
		}
		stop()
	})
}

func TestListenerThatFails(t *testing.T) {
	one, two := loopback(t, "127.0.0.1:0"), loopback(t, "127.0.0.1:0")
	two.Close()
	s := public.NewServer(public.ServerOptions{Handler: healthy(t), Logger: slog.New(slog.DiscardHandler)})
	if err := s.Serve(context.Background(), one, two); err == nil || err.Error() != "serve: the listener was closed" {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", one.Addr().String()); err == nil {
		t.Error("the other listener is still open")
	}
}

func TestBadClientsAreNoNews(t *testing.T) {
	var log lockedBuffer
	l := loopback(t, "127.0.0.1:0")
	_, stop := serve(t, public.ServerOptions{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("our own") }),
		Logger:  slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}, l)
	exchange(t, dial(t, l), "GET / HTTP/1.0\r\n\r\n")
	stop()
	if log.String() != "" {
		t.Errorf("logged %q", log.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// BenchmarkRequests answers over loopback connections that stay open, as nginx keeps
// them; the client is a part of what is measured.
func BenchmarkRequests(b *testing.B) {
	l := loopback(b, "127.0.0.1:0")
	_, stop := serve(b, public.ServerOptions{Handler: healthy(b)}, l)
	defer stop()
	const request = "GET /health HTTP/1.1\r\nHost: h\r\nUser-Agent: Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)\r\n\r\n"
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		c := dial(b, l)
		defer c.Close()
		answer := make([]byte, 4096)
		for pb.Next() {
			if _, err := io.WriteString(c, request); err != nil {
				b.Error(err)
				return
			}
			for n := 0; !bytes.HasSuffix(answer[:n], []byte("}\n")); {
				m, err := c.Read(answer[n:])
				if err != nil {
					b.Error(err)
					return
				}
				n += m
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
