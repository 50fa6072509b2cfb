package health_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sidecar/internal/health"
)

// levels from the best to the worst.
func levels() []health.State { return []health.State{pass, warn, unknown, fail} }

func level(s health.State) int { return slices.Index(levels(), s) }

// TestHysteresisIsWhatItsWordsSay compares with rise, fall and X of Y in the words of
// the package comment, looked up in the whole history each time.
func TestHysteresisIsWhatItsWordsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := health.Node{ID: "n", Every: every, Rise: rapid.IntRange(1, 4).Draw(t, "rise"), Fall: rapid.IntRange(1, 4).Draw(t, "fall")}
		if n.Y = rapid.IntRange(0, 8).Draw(t, "y"); n.Y > 0 {
			n.X = rapid.IntRange(1, n.Y).Draw(t, "x")
		}
		tree, err := health.New(noon(), []health.Node{n})
		if err != nil {
			t.Fatal(err)
		}
		history := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 40).Draw(t, "history")
		state, first := history[0], 0
		succeeded := func(l int) bool { return l <= level(warn) }
		for i := range history {
			now := noon().Add(time.Duration(i) * every)
			if succeeded(history[i]) && !slices.ContainsFunc(history[:i], succeeded) {
				state, first = history[i], i // what was before the first success counts no more
			}
			reprobe := tree.Observe("n", now, health.Result{State: levels()[history[i]]})
			past := history[first : i+1]
			count := func(last int, is func(int) bool) (count int) {
				for _, l := range past[max(0, len(past)-last):] {
					if is(l) {
						count++
					}
				}
				return count
			}
			reached := func(l int) bool {
				atLeast := func(r int) bool { return r >= l }
				return count(n.Fall, atLeast) == n.Fall || n.X > 0 && count(n.Y, atLeast) >= n.X
			}
			often := func(l int) bool { return n.X > 0 && count(n.Y, func(r int) bool { return r > l }) >= n.X }
			before := state
			for l := before + 1; i > first && l <= 3; l++ {
				if reached(l) {
					state = l
				}
			}
			for l := before - 1; i > first && l >= 0 && state <= before; l-- {
				if count(n.Rise, func(r int) bool { return r <= l }) == n.Rise && !often(l) {
					state = l
				}
			}
			got := tree.Snapshot(now).Nodes[0]
			shown := levels()[state]
			if got.Flapping && shown == pass {
				shown = warn
			}
			if got.State != shown {
				t.Fatalf("after %v: %v, want %v", past, got.State, shown)
			}
			if want := history[i] > state; reprobe != want {
				t.Fatalf("after %v (%v): reprobe %v", past, got.State, reprobe)
			}
		}
	})
}

// world is a tree that random things happen to.
type world struct {
	tree  *health.Tree
	nodes []health.Node
	now   time.Time
	// outages are the times of not being up that go on, by ID.
	outages map[string]*outage
}

type outage struct {
	begin           time.Time
	failed, excused bool
}

func drawNodes(t *rapid.T) []health.Node {
	var nodes []health.Node
	groups := []string{""}
	var leaves []string // what a later node can depend on without going round
	for i := range rapid.IntRange(1, 12).Draw(t, "nodes") {
		n := health.Node{
			ID:     fmt.Sprintf("n%d", i),
			Parent: rapid.SampledFrom(groups).Draw(t, "parent"),
			Weight: rapid.SampledFrom([]health.Weight{health.Critical, health.Critical, health.Degraded, health.Info}).Draw(t, "weight"),
			Hold:   rapid.SampledFrom([]time.Duration{0, 90 * time.Second}).Draw(t, "hold"),
		}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			groups = append(groups, n.ID)
			n.Quorum = rapid.IntRange(0, 3).Draw(t, "quorum")
		default:
			n.Every = rapid.SampledFrom([]time.Duration{every, 3 * every}).Draw(t, "every")
			n.Rise = rapid.IntRange(0, 3).Draw(t, "rise")
			n.Fall = rapid.IntRange(0, 3).Draw(t, "fall")
			n.Grace = rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "grace")
		}
		if len(leaves) > 0 && rapid.Bool().Draw(t, "depends") {
			n.DependsOn = []string{rapid.SampledFrom(leaves).Draw(t, "on")}
		}
		if n.Every > 0 {
			leaves = append(leaves, n.ID)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// happen is one random event.
func (w *world) happen(t *rapid.T) {
	id := rapid.SampledFrom(w.nodes).Draw(t, "id").ID
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0, 1:
		w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Second, every, 31 * time.Second, 95 * time.Second}).Draw(t, "wait"))
	case 2:
		w.tree.Restarted(id, w.now)
	case 3:
		_ = w.tree.SetMaintenance(id, w.now.Add(rapid.SampledFrom([]time.Duration{0, every, time.Minute}).Draw(t, "maintenance")))
	case 4:
		b, err := w.tree.Save(w.now)
		if err != nil {
			t.Fatal(err)
		}
		if w.tree, err = health.New(w.now, w.nodes); err != nil {
			t.Fatal(err)
		}
		if err := w.tree.Restore(w.now, b); err != nil {
			t.Fatal(err)
		}
	default:
		state := rapid.SampledFrom([]health.State{pass, pass, pass, warn, fail, fail, unknown, starting, maintenance}).Draw(t, "state")
		w.tree.Observe(id, w.now, health.Result{State: state, Text: "text"})
	}
}

// check looks at everything that must hold in any snapshot.
func (w *world) check(t *rapid.T) {
	s := w.tree.Snapshot(w.now)
	if again := w.tree.Snapshot(w.now); !cmp.Equal(s, again) {
		t.Fatalf("looking changes it: %s", cmp.Diff(s, again))
	}
	for i := range s.Nodes {
		n, config := &s.Nodes[i], &w.nodes[slices.IndexFunc(w.nodes, func(c health.Node) bool { return c.ID == s.Nodes[i].ID })]
		well := n.State == pass || n.State == warn
		if well && !n.Up || n.Up && (n.State == fail || n.State == unknown) {
			t.Fatalf("%v and up %v: %+v", n.State, n.Up, n)
		}
		if config.Every > 0 && well && w.now.Sub(n.CheckedAt) > 3*config.Every {
			t.Fatalf("stale and well: %+v", n)
		}
		if n.State != maintenance && !n.Until.IsZero() || n.State == maintenance && n.Until.IsZero() && config.Every > 0 && n.Last.State != maintenance {
			t.Fatalf("maintenance without an end, or the other way round: %+v", n)
		}
		w.checkHold(t, n, config)
		w.checkCauses(t, s, n)
		if len(n.Transitions) > 0 && (n.Transitions[len(n.Transitions)-1].To != n.State || !n.Transitions[len(n.Transitions)-1].At.Equal(n.Since)) {
			t.Fatalf("the last transition is not to this state: %+v", n)
		}
		w.checkBlame(t, s, n)
	}
}

// checkHold: a time of not being up in which it failed is at least as long as Hold,
// if there was no maintenance.
func (w *world) checkHold(t *rapid.T, n *health.NodeState, config *health.Node) {
	o, ok := w.outages[n.ID]
	switch {
	case ok && n.State == maintenance:
		o.excused = true
	case ok && n.Up:
		if o.failed && !o.excused && w.now.Sub(o.begin) < config.Hold {
			t.Fatalf("up %v after it went down: %+v", w.now.Sub(o.begin), n)
		}
		delete(w.outages, n.ID)
	case !ok && (!n.Up || n.State == maintenance):
		w.outages[n.ID] = &outage{begin: w.now, failed: n.State == fail, excused: n.State == maintenance}
	case ok:
		o.failed = o.failed || n.State == fail
	}
}

func (w *world) checkCauses(t *rapid.T, s *health.Snapshot, n *health.NodeState) {
	if n.Blocked && (n.State != unknown || len(n.Causes) == 0) {
		t.Fatalf("blocked by nothing: %+v", n)
	}
	for _, c := range n.Causes {
		if cause := s.Node(c); cause == nil || cause.State == pass {
			t.Fatalf("a cause that passes: %+v", n)
		}
	}
	for _, r := range s.Roots(n.ID) {
		if root := s.Node(r); root == nil || root.State == pass || len(root.Causes) > 0 {
			t.Fatalf("the root %s of %+v", r, n)
		}
	}
}

// checkBlame: the machine is up exactly if everything critical at its top is, and
// passes only if all that counts there does.
func (w *world) checkBlame(t *rapid.T, s *health.Snapshot, n *health.NodeState) {
	if n.Parent != "" || n.Weight == health.Info {
		return
	}
	if n.Weight == health.Critical && !n.Up && s.Up || n.State != pass && s.State == pass {
		t.Fatalf("the machine is %v (up %v) with %+v", s.State, s.Up, n)
	}
}

// TestWhateverHappens holds the promises of the package against random histories, in
// which healthd is also killed and started again.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{nodes: drawNodes(t), now: noon(), outages: map[string]*outage{}}
		var err error
		if w.tree, err = health.New(w.now, w.nodes); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			w.happen(t)
			w.check(t)
		}
	})
}

// TestARestartChangesNothing: a tree that was saved and restored goes on as the one
// that was not.
func TestARestartChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{nodes: drawNodes(t), now: noon(), outages: map[string]*outage{}}
		var err error
		if w.tree, err = health.New(w.now, w.nodes); err != nil {
			t.Fatal(err)
		}
		// Every node is judged and fresh, as a stale one begins anew.
		observe := func(trees ...*health.Tree) {
			for _, n := range w.nodes {
				r := health.Result{State: rapid.SampledFrom(levels()).Draw(t, "state"), Text: rapid.StringN(0, 10, 20).Draw(t, "text")}
				for _, tree := range trees {
					tree.Observe(n.ID, w.now, r)
				}
			}
			w.now = w.now.Add(every)
		}
		for range rapid.IntRange(1, 10).Draw(t, "rounds") {
			observe(w.tree)
			w.tree.Snapshot(w.now)
		}
		b, err := w.tree.Save(w.now)
		if err != nil {
			t.Fatal(err)
		}
		other, err := health.New(w.now, w.nodes)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Restore(w.now, b); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			one, two := w.tree.Snapshot(w.now), other.Snapshot(w.now)
			if diff := cmp.Diff(one, two, cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
			observe(w.tree, other)
		}
	})
}

// FuzzRestore: a document from disk never breaks anything, and one that is taken
// comes out again.
func FuzzRestore(f *testing.F) {
	tree, err := health.New(noon(), fuzzNodes())
	if err != nil {
		f.Fatal(err)
	}
	tree.Observe("g/1", noon(), health.Result{State: fail, Text: "no"})
	tree.Observe("g/2", noon(), health.Result{State: pass, Values: []health.Value{{Name: "a", Value: 1}}})
	tree.Snapshot(noon())
	if err := tree.SetMaintenance("g", noon().Add(time.Hour)); err != nil {
		f.Fatal(err)
	}
	b, err := tree.Save(noon())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"nodes":{}}`))
	f.Add([]byte(`{"version":1,"nodes":{"g/1":{"settled":"maintenance","started_at":"2026-11-20T12:00:00Z","shown":"pass","since":"2026-11-20T12:00:00Z"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := health.New(noon(), fuzzNodes())
		if err != nil {
			t.Fatal(err)
		}
		restored := tree.Restore(noon(), b)
		one := tree.Snapshot(noon())
		if one.Up && restored != nil {
			t.Fatal("up from a document that was refused")
		}
		tree.Observe("g/1", noon(), health.Result{State: fail})
		tree.Restarted("g", noon())
		s := tree.Snapshot(noon())
		if _, err := json.Marshal(s); err != nil && !strings.Contains(err.Error(), "year outside of range") {
			t.Fatal(err)
		}
		saved, err := tree.Save(noon())
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Restore(noon(), saved); err != nil {
			t.Fatalf("%v: %s", err, saved)
		}
	})
}

func fuzzNodes() []health.Node {
	return []health.Node{{ID: "g", Quorum: 1, Hold: time.Minute}, leaf("g/1"), leaf("g/2")}
}
