package public

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// DefaultMaxConns is the default of ServerOptions.MaxConns: some 8 MiB.
const DefaultMaxConns = 512

const (
	maxHeaderBytes = 8 << 10
	// headerSlack is what net/http adds to Server.MaxHeaderBytes.
	headerSlack = 4 << 10
	// stopTimeout bounds the end: longer than a client has to send its headers.
	stopTimeout = 5 * time.Second
)

// ServerOptions are the settings of a Server.
type ServerOptions struct {
	// Handler answers, usually a *Handler.
	Handler http.Handler
	// MaxConns is how many connections may be open. For each one above it the one that
	// began or finished a request the longest time ago is closed: so idle clients cost
	// others nothing. Default DefaultMaxConns.
	MaxConns int
	// Logger is told, at debug level, what clients do wrong. Required.
	Logger *slog.Logger
}

// Server serves HTTP/1 to clients that may want harm: every read, write and pause has
// a limit (health.md section 5), and so has the number of connections.
type Server struct {
	http http.Server
	gate gate
}

// NewServer returns a Server that serves nothing yet.
func NewServer(o ServerOptions) *Server {
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	s := &Server{gate: gate{limit: o.MaxConns, open: list.New()}}
	s.http = http.Server{
		Handler:                      o.Handler,
		ReadHeaderTimeout:            3 * time.Second,
		ReadTimeout:                  5 * time.Second,
		WriteTimeout:                 10 * time.Second,
		IdleTimeout:                  60 * time.Second,
		MaxHeaderBytes:               maxHeaderBytes - headerSlack,
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
		ErrorLog:                     slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		ConnState:                    s.gate.changed,
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

// Serve serves the listeners until ctx ends or one of them fails, and closes them.
// Connections that were accepted before the end get their answers. It returns nil if
// ctx was the end. It may be called once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- s.http.Serve(&gated{l, &s.gate}) }()
	}
	var err error
	running := len(listeners)
	if running > 0 {
		select {
		case <-ctx.Done():
		case err = <-failed:
			running--
		}
	}
	for _, l := range listeners {
		_ = l.Close()
	}
	for range running {
		<-failed
	}
	s.drain()
	if errors.Is(err, net.ErrClosed) {
		err = errors.New("serve: the listener was closed")
	}
	return err
}

// drain lets all connections that were accepted have their answers, for a while. It
// is not http.Server.Shutdown, which closes a connection without a word if its first
// request is read after Shutdown has begun: with a socket that systemd keeps, that
// would be the only request that a restart loses.
func (s *Server) drain() {
	s.http.SetKeepAlivesEnabled(false) // closes those that are idle, and others after their answer
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-s.gate.drained():
	case <-timeout.C:
	}
	_ = s.http.Close()
}

// gate bounds the connections of all listeners together.
type gate struct {
	limit   int
	mu      sync.Mutex
	open    *list.List    // of *conn, by the time of accept, or of the begin or end of the last request; guarded by mu
	evicted uint64        // guarded by mu
	empty   chan struct{} // closed when open gets empty; nil until somebody waits; guarded by mu
}

// drained returns a channel that is closed when no connection is open. Nothing may be
// added any more.
func (g *gate) drained() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.empty = make(chan struct{})
	if g.open.Len() == 0 {
		close(g.empty)
	}
	return g.empty
}

func (g *gate) add(c *conn) {
	var victim *conn
	g.mu.Lock()
	c.place = g.open.PushBack(c)
	if g.open.Len() > g.limit {
		victim = g.open.Front().Value.(*conn)
		g.evicted++
		g.remove(victim)
	}
	g.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
	}
}

// remove forgets c. g.mu is held.
func (g *gate) remove(c *conn) {
	if c.place != nil {
		g.open.Remove(c.place)
		c.place = nil
		if g.empty != nil && g.open.Len() == 0 {
			close(g.empty)
		}
	}
}

// changed is called by net/http: a connection is active when the first byte of a
// request comes, and idle when it has been answered.
func (g *gate) changed(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok || state != http.StateActive && state != http.StateIdle {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.place != nil {
		g.open.MoveToBack(c.place)
	}
}

// gated is a listener behind the gate.
type gated struct {
	net.Listener
	gate *gate
}

// Accept returns the next connection, and closes another one if there are too many.
func (l *gated) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, gate: l.gate}
	l.gate.add(c)
	return c, nil
}

type conn struct {
	net.Conn
	gate  *gate
	place *list.Element // guarded by gate.mu; nil when it counts no more
}

// Close makes room and closes the connection.
func (c *conn) Close() error {
	c.gate.mu.Lock()
	c.gate.remove(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
