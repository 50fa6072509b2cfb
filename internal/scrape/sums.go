package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sidecar/internal/atomicfile"
	"sidecar/internal/promproto"
	"sidecar/internal/promtext"
)

// maxSums is how many series the sums of one app may have.
const maxSums = 100_000

// sums are those of one app. Who has the turn may use them.
type sums struct {
	app      string
	rules    []promtext.Rule
	summer   *promtext.Summer
	workers  []*promtext.Target
	protos   []*promproto.Target // of the workers
	names    []string            // of the workers
	saved    []byte              // the state in the file
	restarts uint64
}

// sumCounts is what the metrics tell of the sums of an app.
type sumCounts struct {
	promtext.SumReport
	restarts uint64 // since the start
	epoch    int64
}

// path returns the file of the state of the sums of an app.
func (s *Scraper) path(app string) string {
	return filepath.Join(s.o.Dir, "sums-"+url.PathEscape(app))
}

// newSums takes up the sums of an app where its state says they were.
func (s *Scraper) newSums(app string, rules []promtext.Rule) *sums {
	n := &sums{app: app, rules: rules, summer: promtext.NewSummer(app, rules, maxSums, time.Now().Unix())}
	state, err := os.ReadFile(s.path(app))
	if errors.Is(err, fs.ErrNotExist) {
		return n
	}
	if err == nil {
		err = n.summer.Restore(state)
	} else {
		_ = n.summer.Restore(nil) // it is an error by design: the sums begin anew
	}
	if err != nil {
		s.o.Log.Error("the state of sums is of no use, they begin anew at zero", "app", app, "path", s.path(app), "err", err)
	}
	n.saved = state
	return n
}

// follow makes the sums those of the members. The caller has the turn.
func (s *Scraper) follow(members []*member) {
	var next []*sums
	for _, m := range members {
		if len(m.Sum) == 0 {
			continue
		}
		i := slices.IndexFunc(next, func(n *sums) bool { return n.app == m.App })
		if i < 0 {
			i = len(next)
			next = append(next, s.sumsOf(m))
		}
		next[i].workers, next[i].protos = append(next[i].workers, m.page), append(next[i].protos, m.proto)
	}
	s.sums, s.summers = next, s.summers[:0]
	for _, n := range next {
		n.forget(members)
		s.summers = append(s.summers, n.summer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sumCounts)
}

// forget takes workers away that are no members any more.
func (n *sums) forget(members []*member) {
	var names []string
	for _, m := range members {
		if m.App == n.app {
			names = append(names, m.Worker)
		}
	}
	for _, name := range n.names {
		if !slices.Contains(names, name) {
			n.summer.Forget(name)
		}
	}
	n.names = names
}

// sumsOf returns the sums of the app of m, without workers: those there are, if the
// rules have not changed.
func (s *Scraper) sumsOf(m *member) *sums {
	if i := slices.IndexFunc(s.sums, func(n *sums) bool { return n.app == m.App }); i >= 0 {
		n := s.sums[i]
		if slices.Equal(n.rules, m.Sum) {
			n.workers, n.protos = n.workers[:0], n.protos[:0]
			return n
		}
		if err := s.write(n.app, n.summer.AppendState(nil)); err != nil {
			s.o.Log.Error("the state of sums is not saved", "app", n.app, "err", err)
		}
	}
	return s.newSums(m.App, m.Sum)
}

// native returns the families that are native histograms at some worker, sorted.
func (n *sums) native() (families []string) {
	for _, p := range n.protos {
		families = append(families, p.Native()...)
	}
	slices.Sort(families)
	return slices.Compact(families)
}

// sum sums what workers have. The caller has the turn.
func (s *Scraper) sum() {
	for _, n := range s.sums {
		n.summer.Native(n.native())
		report := n.summer.Sum(n.workers)
		s.mu.Lock()
		n.restarts += uint64(report.Restarts)
		s.sumCounts[n.app] = sumCounts{report, n.restarts, n.summer.Epoch()}
		s.mu.Unlock()
	}
}

// Save stores what sums are made of, where it has changed. It waits for a scrape that is
// under way, as long as ctx.
func (s *Scraper) Save(ctx context.Context) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for a scrape: %w", ctx.Err())
	}
	states := make([][]byte, len(s.sums))
	for i, n := range s.sums {
		if states[i] = n.summer.AppendState(nil); bytes.Equal(states[i], n.saved) {
			states[i] = nil
		}
	}
	all := slices.Clone(s.sums)
	s.turn <- struct{}{}
	var errs []error
	for i, state := range states {
		if state == nil {
			continue
		}
		if err := s.write(all[i].app, state); err != nil {
			errs = append(errs, fmt.Errorf("save the sums of %s: %w", all[i].app, err))
			continue
		}
		all[i].saved = state
	}
	return errors.Join(errs...)
}

func (s *Scraper) write(app string, state []byte) error {
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Replace(s.path(app), state)
}
