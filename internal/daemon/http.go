package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// Serve answers /metrics, /healthz, /readyz and the routes on l until ctx is done,
// and closes l.
func Serve(ctx context.Context, l net.Listener, metrics prometheus.Gatherer, health Health, routes ...Route) error {
	mux := http.NewServeMux()
	index := "/metrics\n/healthz\n/readyz\n"
	for _, r := range routes {
		mux.Handle(r.Pattern, r.Handler)
		index += r.Pattern[strings.IndexByte(r.Pattern, '/'):] + "\n"
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	mux.HandleFunc("GET /healthz", answer(health.Live))
	mux.HandleFunc("GET /readyz", answer(health.Ready))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, index)
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics: %w", err)
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
