package statuspage

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidecar/internal/history"
)

// refresh is how often a page that is looked at live is loaded again, in seconds.
const refresh = "60"

// ServeHTTP answers GET and HEAD of the paths that the package comment names, and 404
// for all others.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	switch path {
	case "status":
		path = "status.html"
	case "status/":
		// Relative links would lead astray. The address is relative as well, as a proxy may
		// have taken something off the path.
		w.Header().Set("Location", "../status")
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	a, err := p.asset(path, p.options.Now())
	switch {
	case err != nil:
		p.options.Logger.Error("status page: cannot render", "path", path, "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	case a == nil:
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Etag", a.etag)
	h.Set("Cache-Control", "max-age=10")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	switch a.contentType {
	case typeHTML:
		h.Set("Content-Security-Policy", p.policy)
		if r.URL.Query().Has("live") {
			h.Set("Refresh", refresh)
		}
	case typeJSON, typeSVG:
		// Both are meant to be used by other pages. A badge that is opened as a page has
		// nothing to run.
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Content-Security-Policy", "default-src 'none'")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}

// asset returns what is at path at the time now, or nil.
func (p *Page) asset(path string, now time.Time) (*asset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.take(p.current(now), path)
}

// current returns the edition of now. It is made anew when there is something else to
// say, and each minute. p.mu is held.
func (p *Page) current(now time.Time) *edition {
	s := p.last.Load()
	stale := false
	if s == nil {
		s = new(standing)
	} else if stale = now.Sub(s.at).Abs() > p.options.MaxAge; stale {
		s = s.stale()
	}
	e := p.edition
	minute := now.Unix() / 60
	if e == nil || e.version != p.version || e.minute != minute || e.stale != stale {
		e = &edition{p.version, minute, stale, makeView(s, now, p.minutes, p.incidents), map[string]*asset{}}
		p.edition = e
	}
	return e
}

// take returns what an edition has at path, or nil. p.mu is held.
func (p *Page) take(e *edition, path string) (*asset, error) {
	a, ok := e.assets[path]
	if ok {
		return a, nil
	}
	a, err := p.render(e.view, path)
	if err == nil && a != nil {
		e.assets[path] = a
	}
	return a, err
}

// minutes returns what is known of a day of a node. p.mu is held.
func (p *Page) minutes(id string, d history.Day) history.Counts {
	var c history.Counts
	if r := p.rings[id]; r != nil {
		c, _ = r.Counts(d)
	}
	return c
}

// maxRingName is less than what file systems allow, 255.
const maxRingName = 200

const ringSuffix = ".ring"

// ringName returns the name of the file with the history of a node.
func ringName(id string) string {
	if id == "" {
		return "machine" + ringSuffix
	}
	name := url.PathEscape(id)
	if len(name) > maxRingName {
		sum := fnv.New128a()
		_, _ = sum.Write([]byte(id)) // never fails
		name = fmt.Sprintf("%s~%x", name[:maxRingName-40], sum.Sum(nil))
	}
	return "node-" + name + ringSuffix
}

func sameIncidents(a, b []*Incident) bool {
	return slices.EqualFunc(a, b, func(a, b *Incident) bool {
		return a.Name == b.Name && a.Title == b.Title && a.Started.Equal(b.Started) && a.Ended.Equal(b.Ended) &&
			a.Kind == b.Kind && a.Body == b.Body && slices.Equal(a.Affects, b.Affects)
	})
}
