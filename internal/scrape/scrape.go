// Package scrape answers one scrape of Prometheus for all targets of the machine: it
// fetches their pages at the same time and within the scraper's patience, has them
// merged (package promtext), and serves the result, each target by itself for those who
// want a real `up`, and the list of them for Prometheus' http_sd.
//
// A scrape is a flight: whoever asks while pages are still on their way shares it, so
// that no target is asked twice for two scrapers. Nothing is kept for the next one but
// what makes reading it fast; a target that does not answer is missing in the page, and
// healthd_target_up says so.
package scrape

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/probe"
	"sidecar/internal/promproto"
	"sidecar/internal/promtext"
)

// Target is a process that has metrics.
type Target struct {
	// App and Worker become labels; the pairs differ. Worker may be empty.
	App, Worker string
	// Page is where the metrics are.
	Page *probe.Page
	// Lenient drops bad lines; otherwise one refuses the page.
	Lenient bool
	// Sum says which families are summed over the workers of App; the same for all of
	// them. None: none.
	Sum []promtext.Rule
}

// name is the target in the log and in paths: "shop/3".
func (t *Target) name() string {
	if t.Worker == "" {
		return t.App
	}
	return t.App + "/" + t.Worker
}

// Options are those of a Scraper.
type Options struct {
	// Own are the metrics of this program, gathered once the targets were read. They get
	// no labels.
	Own prometheus.Gatherer
	// Limits bound what one target can do; zero values are promtext's.
	Limits promtext.Limits
	// TotalBytes bounds the pages of all targets together; 0 is DefaultTotalBytes.
	TotalBytes int64
	// Dir is where Save keeps what sums are made of, over a restart.
	Dir string
	// Log gets a line when a target is lost, for another reason, or back.
	Log *slog.Logger
}

// Scraper scrapes. Its methods may be called at the same time.
type Scraper struct {
	o Options

	alone room // of the pages that are passed through

	// turn holds a token while nobody uses what follows, and the pages of members.
	turn    chan struct{}
	own     *promtext.Target
	merger  promtext.Merger
	packer  *gzip.Writer
	pages   []*promtext.Target
	protos  []*promproto.Target // of the members
	sums    []*sums
	summers []*promtext.Summer
	seen    []*member // that sums are for

	mu        sync.Mutex
	members   []*member                        // guarded by mu: sorted by app and worker; the slice is not changed
	flight    *flight                          // guarded by mu: the one to join, nil if there is none
	users     int                              // guarded by mu: of all flights
	flights   int                              // guarded by mu: that somebody is waiting for, or has the page of
	free      buffers                          // guarded by mu
	conflicts map[promtext.ConflictKind]uint64 // guarded by mu
	sumCounts map[string]sumCounts             // guarded by mu: by app
}

// buffers are those that nobody uses.
type buffers struct {
	page, proto, zip []byte
	fetches          [][]byte
	size             int // the capacity of fetches together
}

// New returns a scraper without targets.
func New(o Options) *Scraper {
	if o.Limits.PageBytes == 0 {
		o.Limits.PageBytes = promtext.DefaultLimits().PageBytes
	}
	if o.TotalBytes == 0 {
		o.TotalBytes = DefaultTotalBytes
	}
	s := &Scraper{o: o, turn: make(chan struct{}, 1), own: promtext.NewTarget(promtext.Options{Own: true}),
		conflicts: map[promtext.ConflictKind]uint64{promtext.TypeDiffers: 0, promtext.UnitDiffers: 0, promtext.NameTaken: 0, promproto.Left: 0}, sumCounts: map[string]sumCounts{}}
	s.alone.left.Store(o.TotalBytes)
	s.turn <- struct{}{}
	return s
}

// Replace makes targets those to scrape from the next scrape on. What is known of those
// that stay is kept.
func (s *Scraper) Replace(targets []Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := map[string]*member{}
	for _, m := range s.members {
		old[m.key()] = m
	}
	next := map[string]*member{}
	for _, t := range targets {
		m := newMember(t, s.o)
		if kept, ok := old[m.key()]; ok {
			m = kept
		}
		next[t.name()] = m
	}
	s.members = slices.SortedFunc(maps.Values(next), func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Worker, b.Worker))
	})
}

// current returns the members, sorted. The caller must not change the slice.
func (s *Scraper) current() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members
}

// How long a scrape may take.
const (
	// defaultPatience is that of Prometheus (scrape_timeout).
	defaultPatience = 10 * time.Second
	// patienceLimit bounds what a scraper may ask for.
	patienceLimit = time.Minute
	// margin is left for merging and sending the page. blackbox_exporter leaves the same.
	margin = 500 * time.Millisecond
)

// within returns how long pages may take if the scraper waits for patience.
func within(patience time.Duration) time.Duration {
	patience = min(patience, patienceLimit)
	return max(patience-margin, patience/2)
}
