package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"sidecar/internal/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func logger(t *testing.T, w io.Writer, level, format string) *slog.Logger {
	t.Helper()
	l, err := daemon.NewLogger(w, level, format)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestJournalLog(t *testing.T) {
	for _, tt := range []struct {
		name string
		log  func(*slog.Logger)
		want string
	}{
		{"debug", func(l *slog.Logger) { l.Debug("d") }, "<7>d\n"},
		{"info", func(l *slog.Logger) { l.Info("i") }, "<6>i\n"},
		{"warn", func(l *slog.Logger) { l.Warn("w") }, "<4>w\n"},
		{"error", func(l *slog.Logger) { l.Error("e") }, "<3>e\n"},
		{"between", func(l *slog.Logger) { l.Log(context.Background(), slog.LevelInfo+1, "i") }, "<6>i\n"},
		{"attributes", func(l *slog.Logger) { l.Info("sent", "count", 3, "err", errors.New("no way")) }, "<6>sent count=3 err=\"no way\"\n"},
		{"with", func(l *slog.Logger) { l.With("a", 1).Info("m", "b", 2) }, "<6>m a=1 b=2\n"},
		{"with only", func(l *slog.Logger) { l.With("a", 1).Info("m") }, "<6>m a=1\n"},
		{"group", func(l *slog.Logger) { l.With("a", 1).WithGroup("g").Info("m", "b", 2, "level", 3) }, "<6>m a=1 g.b=2 g.level=3\n"},
		{"own names", func(l *slog.Logger) { l.Info("m", "level", "x", "msg", "y", "time", "z") }, "<6>m level=x msg=y time=z\n"},
		{"lines in a value", func(l *slog.Logger) { l.Info("m", "err", "a\nb\r\n<0>c") }, "<6>m err=\"a\\nb\\r\\n<0>c\"\n"},
		{"lines in the message", func(l *slog.Logger) { l.Info("a\n<0>b") }, "<6>\"a\\n<0>b\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			tt.log(logger(t, &b, "debug", daemon.FormatJournal))
			if b.String() != tt.want {
				t.Errorf("got %q, want %q", b.String(), tt.want)
			}
		})
	}
}

// countingWriter fails the test when a line comes in more than one Write.
type countingWriter struct {
	mu    sync.Mutex
	lines int
	bad   string
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !bytes.HasPrefix(b, []byte("<6>m ")) || bytes.IndexByte(b, '\n') != len(b)-1 {
		w.bad = string(b)
	}
	w.lines++
	return len(b), nil
}

func TestJournalLogIsConcurrent(t *testing.T) {
	w := new(countingWriter)
	l := logger(t, w, "info", daemon.FormatJournal)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			derived := l.With("i", i)
			for range 200 {
				derived.Info("m")
				derived.Debug("not logged")
			}
		})
	}
	wg.Wait()
	if w.lines != 1600 || w.bad != "" {
		t.Errorf("%d lines, %q", w.lines, w.bad)
	}
}

func TestTextLog(t *testing.T) {
	var b bytes.Buffer
	l := logger(t, &b, "warn", daemon.FormatText)
	l.Info("no")
	l.Warn("yes", "a", 1)
	if s := b.String(); !strings.HasPrefix(s, "time=") || !strings.HasSuffix(s, " level=WARN msg=yes a=1\n") {
		t.Errorf("got %q", s)
	}
}

func TestAutoLogOutsideOfTheJournal(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:1")
	if daemon.StderrIsJournal() {
		t.Error("any stream is taken for the journal's")
	}
	var b bytes.Buffer
	logger(t, &b, "info", daemon.FormatAuto).Info("m")
	if !strings.HasPrefix(b.String(), "time=") {
		t.Errorf("got %q", b.String())
	}
}

func TestLoggerErrors(t *testing.T) {
	if _, err := daemon.NewLogger(io.Discard, "loud", daemon.FormatText); err == nil || err.Error() != `log level "loud": want debug, info, warn or error` {
		t.Error(err)
	}
	if _, err := daemon.NewLogger(io.Discard, "info", "xml"); err == nil || err.Error() != `log format "xml": want auto, journal or text` {
		t.Error(err)
	}
}

// notifySocket returns a socket that plays systemd's.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func wantNotification(t *testing.T, c *net.UnixConn, want string) {
	t.Helper()
	b := make([]byte, 1024)
	n, err := c.Read(b)
	if err != nil {
		t.Fatalf("want %q: %v", want, err)
	}
	if string(b[:n]) != want {
		t.Fatalf("got %q, want %q", b[:n], want)
	}
}

func TestNotify(t *testing.T) {
	c := notifySocket(t)
	var b bytes.Buffer
	l := logger(t, &b, "info", daemon.FormatJournal)
	daemon.Ready(l)
	wantNotification(t, c, "READY=1")
	daemon.Stopping(l)
	wantNotification(t, c, "STOPPING=1")
	if b.Len() != 0 {
		t.Error(b.String())
	}
}

func TestNotifyWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var b bytes.Buffer
	daemon.Ready(logger(t, &b, "debug", daemon.FormatJournal))
	if b.Len() != 0 {
		t.Error(b.String())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	daemon.Ready(logger(t, &b, "debug", daemon.FormatJournal))
	if !strings.HasPrefix(b.String(), "<4>systemd cannot be notified err=") {
		t.Error(b.String())
	}
}

func TestSuperviseTellsTheStatusWhenItChanges(t *testing.T) {
	c := notifySocket(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	var calls atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan bool)
	go func() {
		defer close(done)
		daemon.Supervise(ctx, slog.New(slog.DiscardHandler), func() (string, bool) {
			if calls.Add(1) <= 3 {
				return "one", true
			}
			return "two", true
		})
	}()
	for _, want := range []string{"STATUS=one", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STATUS=two", "WATCHDOG=1", "WATCHDOG=1"} {
		wantNotification(t, c, want)
	}
	cancel()
	<-done
}

func TestWatchdogIsFedOnlyWhileAlive(t *testing.T) {
	c := notifySocket(t)
	t.Setenv("WATCHDOG_USEC", "15000")
	var calls int
	var b bytes.Buffer
	l := logger(t, &b, "info", daemon.FormatJournal)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	daemon.Supervise(ctx, l, func() (string, bool) {
		if calls++; calls == 12 {
			cancel()
		}
		return "stuck", calls == 1 || calls == 12
	})
	for _, want := range []string{"STATUS=stuck", "WATCHDOG=1", "WATCHDOG=1"} {
		wantNotification(t, c, want)
	}
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("one more notification of %d bytes", n)
	}
	if want := "<3>no progress, the watchdog is not fed status=stuck\n"; b.String() != want {
		t.Errorf("logged %q, want %q once", b.String(), want)
	}
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	c := notifySocket(t)
	t.Setenv("WATCHDOG_USEC", "3000")
	t.Setenv("WATCHDOG_PID", "1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	daemon.Supervise(ctx, slog.New(slog.DiscardHandler), func() (string, bool) { return "s", true })
	wantNotification(t, c, "STATUS=s")
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err == nil {
		t.Error("fed a watchdog that is not ours")
	}
}

// serve serves l until the test ends.
func serve(t *testing.T, l net.Listener, health daemon.Health) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "answer", Help: "h"}, func() float64 { return 42 }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- daemon.Private{Metrics: daemon.Metrics(registry), Health: health}.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := daemon.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func get(t *testing.T, l net.Listener, method, path string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial(l.Addr().Network(), l.Addr().String())
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(method, "http://daemon"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	var live, ready error
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "socket")} {
		live, ready = nil, nil
		l := listen(t, address)
		serve(t, l, daemon.Health{Live: func() error { return live }, Ready: func() error { return ready }})
		want := func(method, path string, status int, text string) {
			t.Helper()
			if got, body := get(t, l, method, path); got != status || !strings.Contains(body, text) {
				t.Errorf("%s %s: got %d %q, want %d %q", method, path, got, body, status, text)
			}
		}
		want("GET", "/metrics", 200, "\nanswer 42\n")
		want("GET", "/healthz", 200, "ok\n")
		want("GET", "/readyz", 200, "ok\n")
		want("GET", "/", 200, "/metrics\n/healthz\n/readyz\n")
		want("GET", "/other", 404, "")
		want("POST", "/metrics", 405, "")
		ready = errors.New("no connection to the receiver")
		want("GET", "/healthz", 200, "ok\n")
		want("GET", "/readyz", 503, "no connection to the receiver\n")
		live = errors.New("no progress")
		want("GET", "/healthz", 503, "no progress\n")
	}
}

func TestServeEndsWithOpenConnections(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ok := func() error { return nil }
	go func() {
		done <- daemon.Private{Metrics: daemon.Metrics(prometheus.NewRegistry()), Health: daemon.Health{Live: ok, Ready: ok}}.Run(ctx, l)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeOnAListenerThatFails(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	l.Close()
	if err := (daemon.Private{Metrics: daemon.Metrics(prometheus.NewRegistry())}).Run(context.Background(), l); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestPortInUse(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	_, err := daemon.Listen(l.Addr().String())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "choose another address") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l := listen(t, "unix:"+path)
	if _, err := daemon.Listen("unix:" + path); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "another instance answers there") {
		t.Errorf("got %v", err)
	}
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestAFileIsNotTakenForAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "data" {
		t.Errorf("the file is gone: %v", err)
	}
}
