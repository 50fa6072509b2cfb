// Package public answers external monitors: /health for the machine, /health/NAME for
// what has a public name, each also as plain text and as the XML of Pingdom's custom
// check. It shows the names that are configured as public and their states, and
// nothing else: no other path, name, version, time or error text can come out of it.
//
// Answers are made when a snapshot is published, and a request looks one up; nothing
// is ever checked in a request. They follow what monitors do:
//
//   - 200 for what is up (pass, warn, maintenance, a restart within its grace), 503 for
//     everything else, also if snapshots stop coming. No redirects, no 401, 403 or 429.
//   - GET and HEAD alike, HTTP/1.0, Content-Length always, no-store, less than 1 KiB.
//   - ALL-OK is in an answer only if the state is pass, and up=true or "up":true only
//     with 200. So a monitor that looks for a word needs no parser.
//
// It does not listen on addresses that nobody gave it, terminate TLS, or limit rates: to
// a monitor 429 is an outage. Serve bounds what clients can hold.
package public

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"sidecar/internal/health"
)

// DefaultMaxAge is the default of Options.MaxAge.
const DefaultMaxAge = 15 * time.Second

// Options are the settings of a Handler. The zero value is useful.
type Options struct {
	// MaxAge is the age of the last snapshot from which on every answer is 503. Default
	// DefaultMaxAge.
	MaxAge time.Duration
	// Audience counts requests. Default: one that knows the built-in monitors.
	Audience *Audience
	// Next answers all paths but /health and those below it. Default: 404.
	Next http.Handler
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Handler is an http.Handler that answers from the last snapshot. Its methods can be
// called concurrently.
type Handler struct {
	options Options
	current atomic.Pointer[edition]
}

// edition is what is answered now.
type edition struct {
	at    time.Time
	shown []shown
	pages map[string]*page // by path; shared by editions that say the same
}

// New returns a Handler that answers 503 to every question of health until the first
// Publish.
func New(o Options) *Handler {
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Audience == nil {
		o.Audience = NewAudience(AudienceOptions{Now: o.Now})
	}
	h := &Handler{options: o}
	h.current.Store(&edition{pages: makePages([]shown{{state: health.Unknown}})})
	return h
}

// Publish makes s what is answered from now on. Its time must come from the clock of
// Options.Now.
func (h *Handler) Publish(s *health.Snapshot) {
	next := &edition{at: s.At, shown: show(s)}
	if last := h.current.Load(); slices.EqualFunc(last.shown, next.shown, shown.equal) {
		next.pages = last.pages
	} else {
		next.pages = makePages(next.shown)
	}
	h.current.Store(next)
}

// Age returns how old the last snapshot is, and false before the first.
func (h *Handler) Age() (time.Duration, bool) {
	e := h.current.Load()
	return h.options.Now().Sub(e.at), !e.at.IsZero()
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if h.options.Next != nil && !isHealth(path) {
		h.options.Next.ServeHTTP(w, r)
		return
	}
	p := h.page(r.Method, path)
	h.options.Audience.count(r, p.code)
	header := w.Header()
	header["Content-Type"] = p.contentType
	header["Content-Length"] = p.length
	header["Cache-Control"] = noStore
	if p.code == http.StatusMethodNotAllowed {
		header["Allow"] = allowed
	}
	if r.ContentLength != 0 || !r.ProtoAtLeast(1, 1) {
		// The body of a GET means nothing, and is not read to its end for the next request.
		// HTTP/1.0 always ends with the answer: its keep-alive is no standard.
		header["Connection"] = closing
	}
	w.WriteHeader(p.code)
	if r.Method != http.MethodHead {
		// An error is the client's: it has gone.
		_, _ = w.Write(p.body)
	}
}

func isHealth(path string) bool {
	const health = "/health"
	return len(path) >= len(health) && path[:len(health)] == health &&
		(len(path) == len(health) || path[len(health)] == '/' || path[len(health)] == '.')
}

// page returns the answer to a request.
func (h *Handler) page(method, path string) *page {
	if method != http.MethodGet && method != http.MethodHead {
		return notAllowed
	}
	e := h.current.Load()
	p, ok := e.pages[path]
	switch {
	case !ok && e.at.IsZero() && isHealth(path):
		// The names are not known yet: what there is no answer to is not yet answered.
		return e.pages["/health"].stale
	case !ok:
		return notFound
	case h.options.Now().Sub(e.at).Abs() > h.options.MaxAge:
		return p.stale
	}
	return p
}
