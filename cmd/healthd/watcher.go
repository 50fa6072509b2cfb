package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidecar/internal/discover"
	"sidecar/internal/health"
	"sidecar/internal/probe"
	"sidecar/internal/public"
	"sidecar/internal/scrape"
	"sidecar/internal/statuspage"
)

// judgeEvery is how often everything is judged: rules that depend on time alone take
// effect then.
const judgeEvery = time.Second

// trust is how long units are taken for what they were when D-Bus went away: long enough
// for it to be restarted, which is no outage of the services.
const trust = 5 * time.Minute

// watcher is the daemon without its listeners: targets in, judgement out.
type watcher struct {
	c         *Config
	log       *slog.Logger
	env       probe.Env
	tree      *health.Tree
	scheduler *probe.Scheduler
	follower  *discover.Follower // nil if units are not discovered
	audience  *public.Audience
	handler   *public.Handler
	metrics   *metrics
	scraper   *scrape.Scraper
	page      *statuspage.Page // nil without a status page

	snapshot atomic.Pointer[health.Snapshot]
	news     chan struct{} // of one: a check has had a result
	first    chan struct{} // closed when the targets are known for the first time
	late     chan struct{} // closed when that has taken too long
	judged   chan struct{} // closed after the first judgement

	saving sync.Mutex // held while the state file is written

	mu    sync.Mutex
	units map[string]unitNodes // guarded by mu
	found *foundSet            // guarded by mu
	runs  map[string]runOf     // guarded by mu; of units
	kinds map[string]string    // guarded by mu; of checks, by ID; replaced, never changed
}

// foundSet is what was found last, for people.
type foundSet struct {
	Apps   []found  `json:"targets"`
	Silent []string `json:"silent,omitempty"`
}

// runOf identifies a run of a unit.
type runOf struct {
	started  time.Time
	restarts uint32
}

func newWatcher(c *Config, log *slog.Logger) (*watcher, error) {
	w := &watcher{c: c, log: log, metrics: newMetrics(), news: make(chan struct{}, 1), first: make(chan struct{}), late: make(chan struct{}), judged: make(chan struct{}), units: map[string]unitNodes{}, runs: map[string]runOf{}}
	w.env = probe.Env{Heartbeats: probe.NewHeartbeats(nil), Certificates: new(probe.Certificates), Counters: new(probe.Counters), Unit: noUnits}
	w.audience = public.NewAudience(public.AudienceOptions{Monitors: monitors(c), Expect: c.Public.Expect, Quiet: time.Duration(c.Public.Quiet)})
	var err error
	if w.page, err = newPage(c, log); err != nil {
		return nil, err
	}
	answers := public.Options{Audience: w.audience}
	if w.page != nil {
		answers.Next = w.page
	}
	w.handler = public.New(answers)
	if c.Discover.Enabled {
		w.follower = discover.New(discover.Options{Ignore: c.Discover.Ignore, Units: unitsOfTargets(c), Trust: trust, OnSet: w.onSet, OnState: w.onState, OnBus: w.onBus, Log: log})
		w.env.Unit = unitOf(w.follower)
	}
	registry := w.registry()
	w.scraper = scrape.New(scrape.Options{Own: registry, Limits: c.limits(), TotalBytes: int64(c.Metrics.MaxTotal), Dir: c.stateDir(), Log: log})
	registry.MustRegister(w.scraper.Collector())
	p := w.plan(nil)
	tree, err := health.New(time.Now(), p.nodes)
	if err != nil {
		return nil, err
	}
	w.tree = tree
	w.scheduler = probe.NewScheduler(c.Probe.Concurrency, w.observe)
	w.take(p, nil)
	return w, nil
}

// unitsOfTargets returns the units that targets of the configuration check.
func unitsOfTargets(c *Config) (units []string) {
	for name, t := range c.Target {
		a, _ := ofTarget(name, t)
		for _, w := range a.workers {
			for _, check := range w.checks {
				if unit, ok := strings.CutPrefix(check, "unit:"); ok {
					unit, _, _ = strings.Cut(unit, "#")
					units = append(units, unit)
				}
			}
		}
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// monitors returns those of the configuration.
func monitors(c *Config) (all []public.Monitor) {
	for name, agent := range c.Public.Monitors {
		all = append(all, public.Monitor{Name: name, Agent: agent})
	}
	slices.SortFunc(all, func(a, b public.Monitor) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// plan makes nodes and checks of the configuration, of what was discovered (nil: not
// yet), and healthd's own.
func (w *watcher) plan(set *discover.Set) *planner {
	p := newPlanner(w.c, w.env)
	p.addConfig()
	if set != nil {
		p.addUnits(set)
	}
	p.finish()
	own := func(name string, weight health.Weight, run probe.Func) {
		id := ownName + "/" + name
		p.nodes = append(p.nodes, health.Node{ID: id, Parent: ownName, Weight: weight, Every: ownEvery})
		p.checks = append(p.checks, probe.Check{ID: id, Kind: ownName, Key: name, Every: ownEvery, Timeout: ownEvery, Run: run})
	}
	p.nodes = append(p.nodes, health.Node{ID: ownName})
	own("monitors", health.Degraded, w.audience.Check)
	if w.follower != nil {
		own("units", health.Critical, w.checkDiscovery)
	}
	return p
}

// ownEvery is how often healthd looks at itself.
const ownEvery = 10 * time.Second

// checkDiscovery judges whether units are followed. As long as it is not known what
// there is to watch, nothing can be said to be well.
func (w *watcher) checkDiscovery(ctx context.Context) health.Result {
	select {
	case <-w.first:
	default:
		select {
		case <-w.first:
		case <-w.late:
			return health.Result{State: health.Unknown, Text: "units with a section have not been found yet"}
		case <-ctx.Done():
			return health.Result{State: health.Unknown, Text: "units with a section are still being looked for"}
		}
	}
	if !w.follower.Connected() {
		return health.Result{State: health.Warn, Text: "units are not followed: " + discover.ErrNoBus.Error()}
	}
	return health.Result{State: health.Pass}
}

// take makes a plan that the tree has the present one. silent are the services without
// a section.
func (w *watcher) take(p *planner, silent []string) {
	kinds := make(map[string]string, len(p.checks))
	for _, check := range p.checks {
		kinds[check.ID] = check.Kind
	}
	w.mu.Lock()
	w.kinds = kinds
	w.units = p.units
	maps.DeleteFunc(w.runs, func(unit string, _ runOf) bool { _, watched := p.units[unit]; return !watched })
	w.found = &foundSet{p.found, silent}
	w.mu.Unlock()
	w.scheduler.Set(p.checks)
	w.scraper.Replace(p.metrics)
	w.log.Info("watch", "targets", len(p.found), "checks", len(p.checks))
	for _, f := range p.found {
		for _, text := range f.Problems {
			w.log.Warn("a target is not as it should be", "target", f.Name, "from", f.Source, "problem", text)
		}
	}
}

// onSet takes what was discovered.
func (w *watcher) onSet(set *discover.Set) {
	p := w.plan(set)
	if err := w.tree.Replace(time.Now(), p.nodes); err != nil {
		// A circle of dependencies, which one unit file alone does not show. Without
		// them everything is still watched.
		w.log.Error("dependencies of units are left out", "err", err)
		for i := range p.nodes {
			if !strings.HasSuffix(p.nodes[i].ID, "/unit") && !dependsOnUnit(p.nodes[i]) {
				p.nodes[i].DependsOn = nil
			}
		}
		if err := w.tree.Replace(time.Now(), p.nodes); err != nil {
			w.log.Error("what was discovered cannot be watched, all goes on as before", "err", err)
			return
		}
	}
	w.take(p, set.Silent)
	select {
	case <-w.first:
	default:
		close(w.first)
	}
}

// onBus takes the news that units are followed, or not any more.
func (w *watcher) onBus(bool) { w.scheduler.Probe(ownName + "/units") }

// dependsOnUnit reports whether a node is a check that depends on the check of its own
// unit.
func dependsOnUnit(n health.Node) bool {
	return len(n.DependsOn) == 1 && n.Parent != "" && n.DependsOn[0] == n.Parent+"/unit"
}

// onState takes the change of a unit's state: at once, not when its check is due.
func (w *watcher) onState(unit string, s discover.State) {
	now := time.Now()
	w.mu.Lock()
	nodes := w.units[unit]
	last, known := w.runs[unit]
	w.runs[unit] = runOf{s.Started, s.Restarts}
	w.mu.Unlock()
	if known && !s.Started.IsZero() && (!s.Started.Equal(last.started) || s.Restarts > last.restarts) {
		for _, id := range nodes.workers {
			w.tree.Restarted(id, now)
		}
	}
	for _, id := range nodes.checks {
		w.scheduler.Probe(id)
	}
}

// observe is the sink of the scheduler.
func (w *watcher) observe(id string, at time.Time, r health.Result) (reprobe bool) {
	reprobe = w.tree.Observe(id, at, r)
	select {
	case w.news <- struct{}{}:
	default:
	}
	return reprobe
}

// run watches until ctx is done.
func (w *watcher) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if w.follower != nil {
		wg.Go(func() { w.follower.Run(ctx) })
	}
	wg.Go(func() {
		if err := w.scheduler.Run(ctx); err != nil {
			w.log.Error("end with a check that does not", "err", err)
		}
	})
	w.awaitResults(ctx)
	w.judge(time.Now())
	close(w.judged)
	ticker := time.NewTicker(judgeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.judge(time.Now())
		}
	}
}

// firstTimeout is how long the first judgement waits for what systemd knows, and for
// every check to have a result: less than a proxy in front waits for an answer (five
// seconds in docs/health.md), more than first runs are spread over (three). Later it is
// made of what there is, and is not well without what systemd knows, as nobody knows
// what there is to watch.
const firstTimeout = 4 * time.Second

// awaitResults waits until it is known what there is to watch and how it is, or long
// enough. Results that were saved count as long as they are not stale, so only after a
// reboot, or a long time down, is there something to wait for: without it monitors would
// be told of an outage that is none, that all is starting.
func (w *watcher) awaitResults(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstTimeout)
	defer cancel()
	if w.follower != nil {
		select {
		case <-w.first:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				w.log.Warn("what systemd knows is not known yet, judge without it")
			}
		}
		close(w.late)
		w.scheduler.Probe(ownName + "/units")
	}
	for !w.checked() {
		select {
		case <-w.news:
		case <-ctx.Done():
			return
		}
	}
}

// checked reports whether every check has a result.
func (w *watcher) checked() bool {
	s := w.tree.Snapshot(time.Now())
	return !slices.ContainsFunc(w.scheduler.Statuses(), func(c probe.Status) bool {
		n := s.Node(c.ID)
		return n != nil && n.CheckedAt.IsZero()
	})
}

// judge makes a snapshot and publishes it, unless checks are not run: then what was
// published last gets too old, and every answer is 503.
func (w *watcher) judge(now time.Time) {
	s := w.tree.Snapshot(now)
	last := w.snapshot.Swap(s)
	if w.scheduler.Age() < standstill {
		w.handler.Publish(s)
		if w.page != nil {
			w.page.Update(s)
		}
	}
	if last == nil {
		return
	}
	if last.State != s.State {
		w.log.Log(context.Background(), levelOf(s.State), "state of the machine", "state", s.State, "was", last.State, "why", s.Text, "causes", s.Roots(""))
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		was := last.Node(n.ID)
		if was == nil || was.State == n.State {
			continue
		}
		w.metrics.transition(n.ID)
		level := slog.LevelDebug
		if n.Parent == "" {
			level = levelOf(n.State)
		}
		w.log.Log(context.Background(), level, "state of a target", "target", n.ID, "state", n.State, "was", was.State, "why", n.Text)
	}
	w.metrics.keep(s)
}

// levelOf returns how loud a state is said.
func levelOf(s health.State) slog.Level {
	switch s {
	case health.Fail, health.Unknown:
		return slog.LevelError
	case health.Warn:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// maxAge is how long the scheduler and the judgement may stand still before healthd is
// taken for stuck.
const maxAge = 10 * time.Second

// standstill is how long the scheduler may stand still before what its checks have found
// is taken for old. It goes round once a second.
const standstill = 3 * time.Second

// alive returns an error if healthd does not do its work.
func (w *watcher) alive() error {
	if age := w.scheduler.Age(); age > maxAge {
		return fmt.Errorf("checks have not been run for %v", age.Round(time.Second))
	}
	if age, ok := w.handler.Age(); ok && age > maxAge {
		return fmt.Errorf("nothing has been judged for %v", age.Round(time.Second))
	}
	return nil
}

// ready returns an error as long as it is not known what there is to watch.
func (w *watcher) ready() error {
	if w.follower == nil {
		return nil
	}
	select {
	case <-w.first:
		return nil
	default:
		return discover.ErrNoBus
	}
}

// status is what `systemctl status` shows.
func (w *watcher) status() (string, bool) {
	if err := w.alive(); err != nil {
		return err.Error(), false
	}
	s := w.snapshot.Load()
	if s == nil {
		return "starting", true
	}
	counts := map[health.State]int{}
	for i := range s.Nodes {
		if s.Nodes[i].Parent == "" && s.Nodes[i].ID != ownName {
			counts[s.Nodes[i].State]++
		}
	}
	text := s.State.String()
	for _, state := range []health.State{health.Fail, health.Unknown, health.Warn, health.Starting, health.Maintenance, health.Pass} {
		if n := counts[state]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, state)
		}
	}
	return text, true
}
