package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/common/expfmt"

	"sidecar/internal/promproto"
	"sidecar/internal/promtext"
)

// flight is a scrape of all targets, for everybody who joined it.
type flight struct {
	wanted   wanted
	deadline time.Time   // guarded by Scraper.mu: when pages must be there
	late     *time.Timer // ends ctx then
	ctx      context.Context
	gzip     bool // guarded by Scraper.mu: somebody wants it so
	users    int  // guarded by Scraper.mu

	done        chan struct{} // closed when what follows is there
	err         error
	contentType string
	page        []byte
	zip         []byte // only if somebody wanted it
}

// wanted is what a scraper asks for.
type wanted struct {
	format   promtext.Format // the best one that it takes of these
	protobuf bool            // it takes protobuf, and prefers it
}

// accept is what targets are asked for.
func (w wanted) accept() (accept string) {
	switch w {
	case wanted{promtext.OpenMetrics, true}:
		return protobufType + ",application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
	case wanted{promtext.OpenMetrics, false}:
		return "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
	case wanted{promtext.Text, true}:
		return protobufType + ",text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
	}
	return "text/plain;version=0.0.4,*/*;q=0.1"
}

const protobufType = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

// errBusy is what a scraper is told that came while another scrape took as long as
// both could wait.
var errBusy = errors.New("another scrape is not over yet")

// errCrowd is what a scraper is told that came while many others were served.
var errCrowd = errors.New("too many scrapes at once")

// How many scrapers are served at once, slow readers included, and in how many flights,
// as each has a page of its own.
const (
	maxUsers   = 16
	maxFlights = 4
)

// join returns the flight of somebody who waits until deadline: one that is on its way,
// or else a new one. leave has to be called in the end.
func (s *Scraper) join(w wanted, gzip bool, deadline time.Time) (*flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users >= maxUsers {
		return nil, errCrowd
	}
	f := s.flight
	if f == nil || f.wanted != w {
		if s.flights >= maxFlights {
			return nil, errCrowd
		}
		s.flights++
		f = &flight{wanted: w, deadline: deadline, done: make(chan struct{})}
		// The client that was first may go while others stay.
		ctx, cancel := context.WithCancel(context.Background())
		f.ctx, f.late = ctx, time.AfterFunc(time.Until(deadline), cancel)
		s.flight = f
		go s.fly(f, cancel)
	}
	if deadline.Before(f.deadline) {
		f.deadline = deadline
		f.late.Reset(time.Until(deadline))
	}
	s.users++
	f.users++
	f.gzip = f.gzip || gzip
	return f, nil
}

// leave gives the pages of f back when nobody needs them any more.
func (s *Scraper) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if f.users--; f.users > 0 {
		return
	}
	select {
	case <-f.done:
		s.recycle(f)
	default: // fly will
	}
}

// recycle ends f and keeps its buffers for the next one. s.mu must be held.
func (s *Scraper) recycle(f *flight) {
	s.flights--
	place := &s.free.page
	if f.contentType == promproto.ContentType {
		place = &s.free.proto
	}
	*place = spare(*place, f.page)
	s.free.zip = spare(s.free.zip, f.zip)
	f.page, f.zip = nil, nil
}

// spare returns which of two buffers is kept: the one that was used last, unless it was
// made for much more.
func spare(kept, used []byte) []byte {
	if len(used) > 0 && cap(used) <= max(4*len(used), keptBuffer) {
		return used[:0]
	}
	return kept
}

// What is kept for the next scrape: buffers up to a size, and of those that pages are
// fetched to as many as have a size together. (A sync.Pool keeps nearly twice as many as
// are ever in use at once: 35 for 20 targets.)
const (
	keptBuffer  = 4 << 20
	keptFetches = 16 << 20
)

// borrow returns a buffer to fetch a page to, for giveBack.
func (s *Scraper) borrow() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.free.fetches) - 1
	if last < 0 {
		return nil
	}
	b := s.free.fetches[last]
	s.free.fetches = s.free.fetches[:last]
	s.free.size -= cap(b)
	return b
}

func (s *Scraper) giveBack(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(b) > 0 && cap(b) <= keptBuffer && s.free.size+cap(b) <= keptFetches {
		s.free.fetches = append(s.free.fetches, b[:0])
		s.free.size += cap(b)
	}
}

// take takes the buffer out of a place in s.free; it may be nil.
func (s *Scraper) take(place *[]byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := *place
	*place = nil
	return b
}

// fly runs f. Only one flight at a time uses what is known of the targets.
func (s *Scraper) fly(f *flight, cancel func()) {
	defer cancel()
	defer f.late.Stop()
	select {
	case <-s.turn:
		format, protobuf := s.collect(f.ctx, f.wanted)
		f.err = s.render(f, format, protobuf, s.depart(f))
		s.turn <- struct{}{}
	case <-f.ctx.Done():
		s.depart(f)
		f.err = errBusy
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(f.done)
	if f.users == 0 {
		s.recycle(f)
	}
}

// depart lets nobody join f any more, and reports whether somebody wants it packed.
func (s *Scraper) depart(f *flight) (zip bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight == f {
		s.flight = nil
	}
	return f.gzip
}

// collect reads the pages of all targets, by the time ctx is done. It returns the
// format that they can be merged in, and whether it takes protobuf to say all of them.
func (s *Scraper) collect(ctx context.Context, w wanted) (format promtext.Format, protobuf bool) {
	members := s.current()
	room := s.allot(members)
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() {
			s.giveBack(m.scrape(ctx, w, room, s.borrow()))
		})
	}
	wg.Wait()
	if !slices.Equal(members, s.seen) {
		s.seen = members
		s.follow(members)
	}
	s.sum()
	s.pages, s.protos = append(s.pages[:0], s.own), s.protos[:0]
	format = w.format
	for _, m := range members {
		s.pages, s.protos = append(s.pages, m.page), append(s.protos, m.proto)
		protobuf = protobuf || w.protobuf && m.proto.Needed()
		if r := m.result(); r.err == nil {
			format = min(format, r.format)
		}
	}
	if protobuf {
		format = promtext.Text
	}
	return format, protobuf
}

// render makes the page of f of what was collected.
func (s *Scraper) render(f *flight, format promtext.Format, protobuf, zip bool) error {
	if err := s.readOwn(format); err != nil {
		return err
	}
	f.page, format = s.merger.Append(s.take(&s.free.page), format, s.pages, s.summers)
	f.contentType = format.ContentType()
	s.count(s.merger.Conflicts())
	if protobuf {
		s.convert(f)
	}
	if zip {
		f.zip = s.pack(s.take(&s.free.zip), f.page)
	}
	return nil
}

// convert makes the page of f, which is text, protobuf.
func (s *Scraper) convert(f *flight) {
	text, left := f.page, 0
	f.page, left = promproto.Append(s.take(&s.free.proto), text, s.protos)
	f.contentType = promproto.ContentType
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free.page = spare(s.free.page, text)
	s.conflicts[promproto.Left] += uint64(left)
}

// count counts what was left out of a page.
func (s *Scraper) count(conflicts []promtext.Conflict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conflicts {
		s.conflicts[c.Kind]++
	}
}

// readOwn reads the metrics of this program.
func (s *Scraper) readOwn(format promtext.Format) error {
	families, err := s.o.Own.Gather()
	if err != nil {
		return fmt.Errorf("gather own metrics: %w", err)
	}
	w := bytes.NewBuffer(s.borrow())
	defer func() { s.giveBack(w.Bytes()) }()
	as := expfmt.NewFormat(expfmt.TypeTextPlain)
	if format == promtext.OpenMetrics {
		as = expfmt.NewFormat(expfmt.TypeOpenMetrics)
	}
	encoder := expfmt.NewEncoder(w, as)
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return fmt.Errorf("encode own metrics: %w", err)
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok { // "# EOF"
		if err := closer.Close(); err != nil {
			return fmt.Errorf("encode own metrics: %w", err)
		}
	}
	_, err = s.own.Read(w.Bytes(), format)
	return err
}

// pack appends page to dst, compressed.
func (s *Scraper) pack(dst, page []byte) []byte {
	w := bytes.NewBuffer(dst)
	if s.packer == nil {
		s.packer, _ = gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is valid
	} else {
		s.packer.Reset(w)
	}
	_, _ = s.packer.Write(page) // a bytes.Buffer takes all
	_ = s.packer.Close()
	return w.Bytes()
}
