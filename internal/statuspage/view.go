package statuspage

import (
	"cmp"
	"slices"
	"time"

	"sidecar/internal/health"
	"sidecar/internal/history"
)

// standing is all that the public may know of a snapshot. What is not in here cannot be
// on any page. Immutable.
type standing struct {
	at    time.Time
	state health.State
	up    bool
	since time.Time
	nodes []nodeStanding // by name
}

type nodeStanding struct {
	id     string // for the file of its history; not shown
	name   string
	parent int // index of the nearest group that is public too, or -1
	state  health.State
	up     bool
	since  time.Time
}

// take returns what is public in a snapshot.
func take(s *health.Snapshot) *standing {
	all := &standing{at: s.At, state: s.State, up: s.Up, since: s.Since}
	var nodes []*health.NodeState
	for i := range s.Nodes {
		if s.Nodes[i].Public != "" {
			nodes = append(nodes, &s.Nodes[i])
		}
	}
	slices.SortFunc(nodes, func(a, b *health.NodeState) int { return cmp.Compare(a.Public, b.Public) })
	place := make(map[string]int, len(nodes))
	for i, n := range nodes {
		place[n.ID] = i
	}
	for _, n := range nodes {
		parent := -1
		for around := s.Node(n.Parent); around != nil && parent < 0; around = s.Node(around.Parent) {
			if p, ok := place[around.ID]; ok {
				parent = p
			}
		}
		all.nodes = append(all.nodes, nodeStanding{n.ID, n.Public, parent, n.State, n.Up, n.Since})
	}
	return all
}

// stale returns the standing when no snapshots come any more: nothing is known.
func (s *standing) stale() *standing {
	all := &standing{at: s.at, since: s.at}
	for _, n := range s.nodes {
		n.state, n.up, n.since = health.Unknown, false, s.at
		all.nodes = append(all.nodes, n)
	}
	return all
}

// same reports whether both say the same, at whatever time.
func (s *standing) same(other *standing) bool {
	return s.state == other.state && s.up == other.up && slices.EqualFunc(s.nodes, other.nodes, func(a, b nodeStanding) bool {
		return a.id == b.id && a.name == b.name && a.parent == b.parent && a.state == b.state && a.up == b.up
	})
}

// level is what a minute in that state is in the history. What is starting after a
// restart and was up counts as that; what is starting otherwise is not known yet, as
// before healthd ran.
func level(state health.State, up bool) history.Level {
	switch {
	case state == health.Pass, state == health.Starting && up:
		return history.Up
	case state == health.Warn:
		return history.Degraded
	case state == health.Fail:
		return history.Down
	case state == health.Maintenance:
		return history.Maintenance
	case state == health.Starting:
		return history.None
	}
	return history.Unknown
}

// window is how many days a page shows, today included.
const window = 90

// view is what the templates and the feeds show.
type view struct {
	at       time.Time // of the snapshot; zero before the first
	now      time.Time
	state    health.State
	since    time.Time
	days     []dayView // of the machine, as in service
	total    history.Counts
	services []*service // those that are in no other
	flat     []*service // all, by name
	today    history.Day
	ongoing  []*Incident // newest first, and then what is planned, soonest first
	past     []*Incident // newest first
}

// service is a public name.
type service struct {
	name, slug string
	state      health.State
	since      time.Time
	days       []dayView // window of them, oldest first
	total      history.Counts
	parts      []*service
}

type dayView struct {
	day    history.Day
	counts history.Counts
}

// makeView puts together what is to be shown. days returns the minutes of a day of the
// node with that ID; "" is the machine.
func makeView(s *standing, now time.Time, days func(id string, d history.Day) history.Counts, incidents []*Incident) *view {
	v := &view{at: s.at, now: now, state: s.state, since: s.since, today: history.DayOf(now)}
	sum := func(id string) (all []dayView, total history.Counts) {
		for i := range history.Day(window) {
			if v.today < window-1-i {
				continue
			}
			d := dayView{day: v.today - (window - 1 - i)}
			d.counts = days(id, d.day)
			total = total.Add(d.counts)
			all = append(all, d)
		}
		return all, total
	}
	v.days, v.total = sum("")
	for _, n := range s.nodes {
		one := &service{name: n.name, slug: health.Slug(n.name), state: n.state, since: n.since}
		one.days, one.total = sum(n.id)
		v.flat = append(v.flat, one)
	}
	for i, n := range s.nodes {
		if n.parent < 0 {
			v.services = append(v.services, v.flat[i])
		} else {
			v.flat[n.parent].parts = append(v.flat[n.parent].parts, v.flat[i])
		}
		// Names that do not count for the machine may be down while it is well, but then
		// the page does not say that all is well.
		if v.state == health.Pass && n.state != health.Pass && n.state != health.Maintenance && !(n.state == health.Starting && n.up) {
			v.state, v.since = health.Warn, n.since
		}
	}
	for _, in := range incidents {
		if in.Ongoing(now) {
			v.ongoing = append(v.ongoing, in)
		} else {
			v.past = append(v.past, in)
		}
	}
	slices.SortStableFunc(v.ongoing, func(a, b *Incident) int {
		switch {
		case !a.Started.After(now) && !b.Started.After(now):
			return 0
		case a.Started.After(now) && b.Started.After(now):
			return a.Started.Compare(b.Started)
		case a.Started.After(now):
			return 1
		}
		return -1
	})
	return v
}
