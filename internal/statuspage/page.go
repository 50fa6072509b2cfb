// Package statuspage makes the page that a company shows its customers: the state of
// each public name, its last 90 days, and incidents that operators write down as
// Markdown; beside it the same as JSON, RSS and as badges. It serves them, and writes
// them as files for another host, as a page on a dead machine proves nothing.
//
// Only public names come in: take is the one place that looks at a snapshot. There is
// no script, nothing is loaded from elsewhere, and the pages need no more than HTML.
//
//	/status                         the page (also /status.html)
//	/status?live                    the same, loaded again each minute
//	/status.json                    for programs, see document
//	/status.rss                     incidents, RSS 2.0
//	/status.svg, /status/NAME.svg   badges
//	/status-icon.svg                the icon of the page, in the colour of the state
//	/status/incidents.html          all incidents
//	/status/incidents/FILE.html     one
//
// All links are relative, so that the files work wherever they are put.
package statuspage

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidecar/internal/health"
	"sidecar/internal/history"
)

// Defaults of Options.
const (
	DefaultTitle  = "Status"
	DefaultURL    = "/status"
	DefaultMaxAge = 15 * time.Second
)

const (
	// readEvery is how often incidents are looked for, and files written that have not
	// changed but for the time on them.
	readEvery = 15 * time.Second
	// syncEvery is what a power cut can cost of the history.
	syncEvery = 10 * time.Minute
	// maxQueue is how many snapshots wait for a slow disk: five minutes.
	maxQueue = 300
)

// Options are the settings of a Page.
type Options struct {
	// Title is whose status it is: "Example Ltd". Default DefaultTitle.
	Title string
	// Home is the address that Title links to. "" is none.
	Home string
	// Intro is a sentence below the headline. May be empty.
	Intro string
	// URL is the absolute address of the page, for feeds: their readers do not know it.
	// Default DefaultURL.
	URL string
	// HistoryDir is where the ring files are, one for each public name and one for the
	// machine. Required; made if it does not exist.
	HistoryDir string
	// IncidentsDir is where incidents are, see Incident. "" is none.
	IncidentsDir string
	// StaticDir is where everything is written as files. "" is nowhere.
	StaticDir string
	// MaxAge is the age of the last snapshot from which on nothing is known. Default
	// DefaultMaxAge.
	MaxAge time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Logger is told what cannot be read or written, once. Required.
	Logger *slog.Logger
}

// Page keeps the history, and is the http.Handler of the pages. Its methods can be
// called concurrently.
type Page struct {
	options Options
	*renderer
	last atomic.Pointer[standing] // nil before the first
	wake chan struct{}            // of size 1: something is in queue
	bad  atomic.Int64             // how many problems the log has been told of

	queueMu sync.Mutex
	queue   []*standing // not yet in the history; guarded by queueMu

	mu        sync.Mutex
	rings     map[string]*history.Ring // by ID; guarded by mu
	incidents []*Incident              // guarded by mu
	version   uint64                   // grows when there is something else to show; guarded by mu
	edition   *edition                 // the last one; guarded by mu

	// The rest is owned by Run.
	recorded *standing
	noted    map[string]bool     // problems that the log has been told
	written  map[string][32]byte // sums of files
	files    *edition            // that of the files; nil before they are written
}

// New returns a Page that has read the incidents. The caller runs Run, and calls Update
// with each snapshot.
func New(o Options) (*Page, error) {
	o.Title = cmp.Or(o.Title, DefaultTitle)
	o.URL = cmp.Or(o.URL, DefaultURL)
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.HistoryDir == "" {
		return nil, errors.New("make status page: want a directory for the history")
	}
	p := &Page{
		options: o, renderer: newRenderer(o), wake: make(chan struct{}, 1), version: 1,
		rings: map[string]*history.Ring{}, noted: map[string]bool{}, written: map[string][32]byte{},
	}
	p.readIncidents()
	return p, nil
}

// Update makes s what is shown from now on. It does not wait for a disk. Its time must
// come from the clock of Options.Now.
func (p *Page) Update(s *health.Snapshot) {
	now := take(s)
	p.last.Store(now)
	p.queueMu.Lock()
	if len(p.queue) < maxQueue {
		p.queue = append(p.queue, now)
	}
	p.queueMu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run keeps the history, reads incidents and writes files until ctx ends; then it
// finishes that and returns nil. What goes wrong is logged, and tried again.
func (p *Page) Run(ctx context.Context) error {
	read := time.NewTicker(readEvery)
	defer read.Stop()
	durable := time.NewTicker(syncEvery)
	defer durable.Stop()
	for {
		select {
		case <-ctx.Done():
			p.record()
			p.writeStatic()
			p.close()
			return nil
		case <-p.wake:
			if p.record() {
				p.writeStatic()
			}
		case <-read.C:
			p.readIncidents()
			p.writeStatic()
		case <-durable.C:
			p.sync()
			p.forget()
		}
	}
}

// record puts what is queued into the history. It reports whether a state has changed.
func (p *Page) record() (changed bool) {
	p.queueMu.Lock()
	queue := p.queue
	p.queue = nil
	p.queueMu.Unlock()
	for _, s := range queue {
		p.put(s, "", level(s.state, s.up))
		for _, n := range s.nodes {
			p.put(s, n.id, level(n.state, n.up))
		}
		if p.recorded == nil || !p.recorded.same(s) {
			changed = true
		}
		p.recorded = s
	}
	if changed {
		p.mu.Lock()
		p.version++
		p.mu.Unlock()
	}
	return changed
}

func (p *Page) put(s *standing, id string, l history.Level) {
	r := p.ring(id)
	if r == nil {
		return
	}
	err := r.Put(s.at, l)
	p.note("write history of "+describe(id), err)
}

// ring returns the ring of a node, nil if it cannot be had.
func (p *Page) ring(id string) *history.Ring {
	p.mu.Lock()
	r := p.rings[id]
	p.mu.Unlock()
	if r != nil {
		return r
	}
	path := filepath.Join(p.options.HistoryDir, ringName(id))
	if err := os.MkdirAll(p.options.HistoryDir, 0o700); err != nil {
		p.note("make the directory of the history", err)
		return nil
	}
	p.note("make the directory of the history", nil)
	r, err := history.Open(path)
	if errors.Is(err, history.ErrCorrupt) {
		p.options.Logger.Error("a file is no history, it is kept aside and begun anew", "path", path, "err", err)
		if err = os.Rename(path, path+".bad"); err == nil {
			r, err = history.Open(path)
		}
	}
	p.note("open history of "+describe(id), err)
	if err != nil {
		return nil
	}
	if n := r.Damaged(); n > 0 {
		p.options.Logger.Warn("some copies of days in a history were damaged", "path", path, "count", n)
	}
	p.mu.Lock()
	p.rings[id] = r
	p.mu.Unlock()
	return r
}

func describe(id string) string {
	if id == "" {
		return "the machine"
	}
	return id
}

// note logs a problem when it appears, and when it has gone.
func (p *Page) note(what string, err error) {
	switch {
	case err != nil && !p.noted[what]:
		p.noted[what] = true
		p.options.Logger.Error("status page: cannot "+what, "err", err)
	case err == nil && p.noted[what]:
		delete(p.noted, what)
		p.options.Logger.Info("status page: can again " + what)
	}
	p.bad.Store(int64(len(p.noted)))
}

// Problems returns how many things cannot be read or written at present: incidents, the
// history, files for another host. The log says which.
func (p *Page) Problems() int { return int(p.bad.Load()) }

func (p *Page) readIncidents() {
	if p.options.IncidentsDir == "" {
		return
	}
	all, problems := ReadIncidents(os.DirFS(p.options.IncidentsDir))
	present := map[string]bool{}
	for _, err := range problems {
		text := "incident: " + err.Error()
		present[text] = true
		if !p.noted[text] {
			p.noted[text] = true
			p.options.Logger.Warn("an incident is left out of the status page", "err", err)
		}
	}
	for text := range p.noted {
		if len(text) > len("incident: ") && text[:len("incident: ")] == "incident: " && !present[text] {
			delete(p.noted, text)
		}
	}
	p.bad.Store(int64(len(p.noted)))
	p.mu.Lock()
	defer p.mu.Unlock()
	if !sameIncidents(p.incidents, all) {
		p.incidents = all
		p.version++
	}
}

func (p *Page) sync() {
	for id, r := range p.openRings() {
		p.note("sync history of "+describe(id), r.Sync())
	}
}

// forget removes the history of names that have been gone for as long as it reaches back.
// Those that are there stay whatever the clock says: it may have been wrong.
func (p *Page) forget() {
	here := map[string]bool{}
	for id := range p.openRings() {
		here[ringName(id)] = true
	}
	files, err := os.ReadDir(p.options.HistoryDir)
	for _, f := range files {
		info, gone := f.Info()
		if gone != nil || here[f.Name()] || !strings.Contains(f.Name(), ringSuffix) || p.options.Now().Sub(info.ModTime()) <= history.Days*24*time.Hour {
			continue
		}
		path := filepath.Join(p.options.HistoryDir, f.Name())
		if failed := os.Remove(path); failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		p.options.Logger.Info("the history of a name that is long gone is removed", "path", path)
	}
	p.note("remove old histories", err)
}

func (p *Page) close() {
	for id, r := range p.openRings() {
		p.note("close history of "+describe(id), r.Close())
	}
	p.mu.Lock()
	clear(p.rings)
	p.mu.Unlock()
}

func (p *Page) openRings() map[string]*history.Ring {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]*history.Ring, len(p.rings))
	for id, r := range p.rings {
		all[id] = r
	}
	return all
}
