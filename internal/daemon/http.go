package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health answers /healthz and /readyz: nil is 200, an error 503 with its text.
type Health struct {
	// Live fails when only a restart helps.
	Live func() error
	// Ready fails while the daemon cannot do its job for now.
	Ready func() error
}

// Listen opens the private listener: host:port, or unix:/path, whose stale
// socket it replaces.
func Listen(address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%w (another program, or another instance, listens there: choose another address)", err)
		}
		return l, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// removeStale removes a socket that nobody listens on, and nothing else.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("replace the socket: %w", err)
	}
	if st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("listen unix %s: a file that is not a socket is there", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("listen unix %s: %w (another instance answers there)", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("replace the socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("replace the socket: %w", err)
	}
	return nil
}

// Route is what a daemon serves on its private listener beside the rest.
type Route struct {
	// Pattern is one of http.ServeMux, such as "GET /health/full".
	Pattern string
	Handler http.Handler
}

// Private is what a daemon answers on its private listener.
type Private struct {
	// Metrics answers /metrics, see Metrics.
	Metrics http.Handler
	Health  Health
	// Routes is what there is beside /metrics, /healthz and /readyz.
	Routes []Route
	// Index answers /; nil: a list of all paths.
	Index http.Handler
	// Log is told of clients that break off a handshake, say; nil: the standard logger.
	Log *slog.Logger
	// Serve serves a listener with a server, as http.Server.Serve does; nil is that.
	Serve func(*http.Server, net.Listener) error
}

// Metrics returns a handler that answers with what g gathers.
func Metrics(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Run answers on l until ctx is done, and closes l.
func (p Private) Run(ctx context.Context, l net.Listener) error {
	s := &http.Server{Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 90 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	if p.Log != nil {
		s.ErrorLog = slog.NewLogLogger(p.Log.Handler(), slog.LevelWarn)
	}
	serve := p.Serve
	if serve == nil {
		serve = (*http.Server).Serve
	}
	served := make(chan error, 1)
	go func() { served <- serve(s, l) }()
	select {
	case err := <-served:
		_ = l.Close() // whatever served has seen of it
		return fmt.Errorf("serve the private listener: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := s.Shutdown(closing)
	if err != nil {
		err = s.Close()
	}
	<-served
	return err
}

func (p Private) handler() http.Handler {
	mux := http.NewServeMux()
	routes := append([]Route{
		{"GET /metrics", p.Metrics}, {"GET /healthz", answer(p.Health.Live)}, {"GET /readyz", answer(p.Health.Ready)},
	}, p.Routes...)
	index := ""
	for _, r := range routes {
		mux.Handle(r.Pattern, r.Handler)
		index += r.Pattern[strings.IndexByte(r.Pattern, '/'):] + "\n"
	}
	if p.Index == nil {
		p.Index = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, index) })
	}
	mux.Handle("GET /{$}", p.Index)
	return mux
}

func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		io.WriteString(w, "ok\n")
	}
}
