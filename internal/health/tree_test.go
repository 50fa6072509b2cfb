package health_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sidecar/internal/health"
)

const (
	pass        = health.Pass
	warn        = health.Warn
	fail        = health.Fail
	unknown     = health.Unknown
	starting    = health.Starting
	maintenance = health.Maintenance
)

const every = 10 * time.Second

// machine is a tree with a clock.
type machine struct {
	*testing.T
	*health.Tree
	now time.Time
}

func noon() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func start(t *testing.T, nodes ...health.Node) *machine {
	t.Helper()
	tree, err := health.New(noon(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t, tree, noon()}
}

// leaf is a node that is checked every 10 s.
func leaf(id string) health.Node {
	n := health.Node{ID: id, Every: every}
	if i := strings.LastIndexByte(id, '/'); i > 0 {
		n.Parent = id[:i]
	}
	return n
}

func (m *machine) wait(d time.Duration) { m.now = m.now.Add(d) }

// see observes results of a node by letter: p, w, f, u, s(tarting), m(aintenance).
func (m *machine) see(id, letters string) (reprobe bool) {
	m.Helper()
	for _, c := range letters {
		i := strings.IndexRune("upwfsm", c)
		r := health.Result{State: health.State(i)}
		if c != 'p' {
			r.Text = "it is " + r.State.String()
		}
		reprobe = m.Observe(id, m.now, r)
	}
	return reprobe
}

func (m *machine) node(id string) *health.NodeState {
	m.Helper()
	n := m.Snapshot(m.now).Node(id)
	if n == nil {
		m.Fatalf("no node %q", id)
	}
	return n
}

// want compares the state of a node, and whether it counts as up; "" is the machine.
func (m *machine) want(id string, state health.State, up bool) *health.Standing {
	m.Helper()
	s := m.Snapshot(m.now)
	standing := &s.Standing
	if id != "" {
		standing = &s.Node(id).Standing
	}
	if standing.State != state || standing.Up != up {
		m.Errorf("%s %q: %v (up %v), want %v (up %v): %s %v", m.now.Format("15:04:05"), id, standing.State, standing.Up, state, up, standing.Text, standing.Causes)
	}
	return standing
}

// TestHysteresis: each line is results and the states after each of them.
func TestHysteresis(t *testing.T) {
	run := func(n health.Node, results, want string) {
		t.Helper()
		n.ID, n.Every = "n", every
		m := start(t, n)
		got := ""
		for i := range len(results) {
			m.see("n", results[i:i+1])
			got += m.node("n").State.String()[:1]
			m.wait(every)
		}
		if got != want {
			t.Errorf("rise %d fall %d %d/%d: %s gives %s, want %s", n.Rise, n.Fall, n.X, n.Y, results, got, want)
		}
	}
	once := health.Node{}
	run(once, "pfpwfuwp", "pfpwfuwp")
	three := health.Node{Rise: 2, Fall: 3}
	run(three, "pfpffpfffpfpp", "ppppppppffffp")
	run(three, "pffuffpp", "pppuuuup")
	run(three, "pwwwpp", "pppwwp")
	// A run gets worse only as far as all of it is bad.
	run(three, "pwfff", "pppwf")
	run(three, "pwwf", "pppw")
	// And gets better only as far as all of it is good.
	run(three, "pfffwpp", "pppffwp")
	run(three, "pfffuu", "pppffu")
	// The first success counts alone.
	run(health.Node{Rise: 5, Fall: 5}, "p", "p")
	run(health.Node{Rise: 5, Fall: 5}, "w", "w")
	// Without a grace so does the first failure.
	run(health.Node{Rise: 5, Fall: 5}, "fp", "fp")
	often := health.Node{Rise: 1, Fall: 3, X: 3, Y: 5}
	run(often, "ppfpfpfppppp", "ppppppfppppp")
	run(often, "ppfpfpfffppp", "ppppppfffffp")
	run(often, "pfpfpppppp", "pppppppppp")
	run(often, "pfpfwp", "ppppww")
	run(health.Node{Rise: 1, Fall: 3, X: 1, Y: 1}, "pfp", "pfp")
}

func TestReprobe(t *testing.T) {
	n := leaf("n")
	n.Rise, n.Fall, n.Grace = 2, 3, 30*time.Second
	m := start(t, n)
	for _, step := range []struct {
		result string
		want   bool
	}{
		{"f", true}, {"u", true}, // starting
		{"p", false}, {"f", true}, {"f", true}, {"f", false},
		{"f", false}, {"p", false}, {"p", false}, {"w", true}, {"p", false},
	} {
		if got := m.see("n", step.result); got != step.want {
			t.Errorf("after %s: reprobe %v", step.result, got)
		}
	}
	if m.see("other", "f") {
		t.Error("a node that does not exist is to be probed again")
	}
}

func TestStartingEnds(t *testing.T) {
	n := leaf("n")
	n.Grace = 45 * time.Second
	t.Run("by success", func(t *testing.T) {
		m := start(t, n)
		m.want("n", starting, false)
		m.see("n", "ffff")
		m.want("n", starting, false)
		m.see("n", "p")
		m.want("n", pass, true)
	})
	t.Run("by a failure after the grace", func(t *testing.T) {
		m := start(t, n)
		m.wait(44 * time.Second)
		m.see("n", "f")
		m.want("n", starting, false)
		m.wait(time.Second)
		m.see("n", "f")
		m.want("n", fail, false)
	})
	t.Run("by time, with the last result", func(t *testing.T) {
		m := start(t, n)
		m.wait(44 * time.Second)
		m.see("n", "uf")
		m.wait(time.Second)
		if s := m.want("n", fail, false); s.Text != "it is fail" {
			t.Errorf("text %q", s.Text)
		}
	})
	t.Run("without a result", func(t *testing.T) {
		m := start(t, n)
		m.wait(45 * time.Second)
		m.want("n", starting, false)
		m.wait(time.Second)
		m.want("n", unknown, false)
		m.see("n", "f")
		m.want("n", fail, false)
	})
	t.Run("not before three intervals", func(t *testing.T) {
		m := start(t, leaf("n"))
		m.wait(30 * time.Second)
		m.want("n", starting, false)
		m.wait(time.Second)
		m.want("n", unknown, false)
	})
}

func TestRestart(t *testing.T) {
	n := leaf("n")
	n.Rise, n.Fall, n.Grace = 3, 3, 20*time.Second
	t.Run("of a node that was well", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "p")
		m.wait(25 * time.Second)
		m.see("n", "pff")
		m.Restarted("n", m.now)
		m.want("n", starting, true)
		m.want("", starting, true)
		m.see("n", "ff")
		m.want("n", starting, true)
		m.see("n", "p")
		m.want("n", pass, true)
		m.see("n", "ff")
		m.want("n", pass, true)
	})
	t.Run("of a node that failed", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "pfffpp")
		m.want("n", fail, false)
		m.Restarted("n", m.now)
		m.want("n", fail, false)
		m.see("n", "f")
		m.want("n", fail, false)
		m.see("n", "p")
		m.want("n", pass, true)
	})
	t.Run("again and again without success", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "p")
		for range 4 {
			m.Restarted("n", m.now)
			m.want("n", starting, true)
			m.wait(5 * time.Second)
			m.see("n", "f")
		}
		m.want("n", fail, false)
	})
	t.Run("of a group", func(t *testing.T) {
		m := start(t, health.Node{ID: "g"}, leaf("g/1"), leaf("g/2"))
		m.see("g/1", "p")
		m.see("g/2", "p")
		m.Restarted("g", m.now)
		m.want("g/1", starting, true)
		m.want("g/2", starting, true)
		m.want("g", starting, true)
	})
	t.Run("with the reason, if there is one", func(t *testing.T) {
		m := start(t, n)
		if s := m.want("n", starting, false); s.Text != "no success yet" {
			t.Errorf("text %q", s.Text)
		}
		m.see("n", "f")
		if s := m.want("n", starting, false); s.Text != "no success yet: it is fail" {
			t.Errorf("text %q", s.Text)
		}
	})
	t.Run("as the target says", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "ps")
		m.want("n", starting, true)
		m.wait(20 * time.Second)
		m.see("n", "s")
		m.want("n", fail, false)
	})
}

// TestMaintenanceByResult: a target that says that it is in maintenance is, until it says
// something else or nothing.
func TestMaintenanceByResult(t *testing.T) {
	n := leaf("n")
	n.Rise, n.Fall = 2, 2
	m := start(t, n)
	m.see("n", "ppm")
	if s := m.want("n", maintenance, true); s.Text != "it is maintenance" {
		t.Errorf("text %q", s.Text)
	}
	m.want("", maintenance, true)
	m.see("n", "p")
	m.want("n", pass, true)
	m.see("n", "mf") // it does not answer any more: a warning, and then a failure
	m.want("n", warn, true)
	m.see("n", "f")
	m.want("n", fail, false)
	m.see("n", "m")
	m.want("n", maintenance, true)
	m.wait(3 * every)
	m.want("n", maintenance, true)
	m.wait(1)
	m.want("n", unknown, false)
}

func TestHold(t *testing.T) {
	n := leaf("n")
	n.Hold = 90 * time.Second
	m := start(t, n)
	m.see("n", "p")
	m.wait(every)
	m.see("n", "fp") // between two snapshots
	s := m.want("n", fail, false)
	if !s.Held || s.Text != "it is fail; is over, shown until 2026-11-20T12:01:40Z" {
		t.Errorf("%+v", s)
	}
	for range 8 {
		m.wait(every)
		m.see("n", "p")
		m.want("n", fail, false)
	}
	m.wait(every - 1)
	m.see("n", "p")
	m.want("n", fail, false)
	m.want("", fail, false)
	m.wait(1)
	if s := m.want("n", pass, true); s.Held || s.Text != "" {
		t.Errorf("%+v", s)
	}
}

// TestHoldBeginsOnce: a failure that is seen again after a time without results is
// the same failure.
func TestHoldBeginsOnce(t *testing.T) {
	n := leaf("n")
	n.Hold = 90 * time.Second
	m := start(t, n)
	m.see("n", "pf")
	m.wait(40 * time.Second)
	m.see("n", "f")
	m.wait(50 * time.Second)
	m.see("n", "p")
	m.want("n", pass, true)
}

func TestHoldOfAGroup(t *testing.T) {
	m := start(t, health.Node{ID: "g", Hold: time.Minute}, leaf("g/1"))
	m.see("g/1", "p")
	m.want("g", pass, true)
	m.see("g/1", "f")
	m.want("g", fail, false)
	m.see("g/1", "p")
	if s := m.want("g", fail, false); !s.Held || !strings.HasPrefix(s.Text, "g/1: it is fail; ") {
		t.Errorf("%+v", s)
	}
	m.see("g/1", "w")
	if s := m.want("g", fail, false); len(s.Causes) != 0 {
		t.Errorf("what is over has the cause %q", s.Causes)
	}
	for range 6 {
		m.wait(every)
		m.see("g/1", "p")
	}
	m.want("g", pass, true)
	if m.see("g", "f") || !m.node("g").CheckedAt.IsZero() {
		t.Error("a group takes a result")
	}
}

// TestStrongerRulesEndTheHold: what is stale, blocked or in maintenance is not held too.
func TestStrongerRulesEndTheHold(t *testing.T) {
	n, db := leaf("n"), leaf("db")
	n.Hold, n.DependsOn = time.Hour, []string{"db"}
	m := start(t, n, db)
	m.see("db", "p")
	m.see("n", "pfp")
	if s := m.want("n", fail, false); !s.Held {
		t.Error("not held")
	}
	m.see("db", "f")
	if s := m.want("n", unknown, false); s.Held || len(s.Causes) != 1 {
		t.Errorf("blocked: %+v", s)
	}
	if err := m.SetMaintenance("n", m.now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if s := m.want("n", maintenance, true); s.Held || len(s.Causes) != 0 {
		t.Errorf("in maintenance: %+v", s)
	}
	m.wait(31 * time.Second)
	m.see("db", "p")
	if s := m.want("n", unknown, false); s.Held {
		t.Errorf("stale: %+v", s)
	}
}

func TestHoldWhenTheClockIsSetBack(t *testing.T) {
	n := leaf("n")
	n.Hold = 90 * time.Second
	m := start(t, n)
	m.see("n", "pf")
	m.wait(-time.Hour)
	m.see("n", "p")
	m.want("n", pass, true)
}

// TestTheClockJumps: by the wall clock, which is all that a restart leaves of the times
// before it, results of another hour are none, and the next one counts alone, whatever
// the hysteresis. A maintenance ends when it says.
func TestTheClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		n := leaf("n")
		n.Rise, n.Fall, n.Grace = 3, 3, time.Minute
		m := start(t, n, leaf("kept"))
		m.see("n", "pfff")
		m.want("n", fail, false)
		if err := m.SetMaintenance("kept", m.now.Add(30*time.Minute)); err != nil {
			t.Fatal(err)
		}
		m.wait(jump)
		m.want("n", unknown, false)
		m.see("n", "p")
		m.want("n", pass, true)
		m.see("n", "f") // the first of three
		m.want("n", pass, true)
		m.see("kept", "p")
		if until := m.node("kept").Until; until.IsZero() != (jump > 0) {
			t.Errorf("after a jump of %v in maintenance until %v", jump, until)
		}
	}
}

func TestStale(t *testing.T) {
	for _, state := range []string{"p", "w", "f", "u"} {
		m := start(t, leaf("n"))
		m.see("n", state)
		m.wait(3 * every)
		before := m.node("n")
		if before.Stale || before.State.String()[:1] != state {
			t.Errorf("%s after three intervals: %+v", state, before)
		}
		m.wait(1)
		m.want("n", unknown, false)
		m.want("", unknown, false)
		if after := m.node("n"); !after.Stale || !strings.HasPrefix(after.Text, "stale: ") {
			t.Errorf("%s after more: %+v", state, after)
		}
	}
}

// TestResultsBeforeAGapAreForgotten: after a time without results the next one counts
// alone, in both directions.
func TestResultsBeforeAGapAreForgotten(t *testing.T) {
	n := leaf("n")
	n.Rise, n.Fall = 3, 3
	for _, gap := range []time.Duration{time.Hour, -time.Hour} {
		m := start(t, n)
		m.see("n", "p")
		m.wait(gap)
		m.want("n", unknown, false)
		m.see("n", "f")
		m.want("n", fail, false)
		m.wait(gap)
		m.see("n", "p")
		m.want("n", pass, true)
	}
	n.X, n.Y = 3, 5
	m := start(t, n)
	m.see("n", "pff")
	m.wait(time.Hour)
	m.see("n", "pf")
	m.want("n", pass, true)
}

func TestFlapping(t *testing.T) {
	m := start(t, leaf("n"))
	m.see("n", "p")
	for range 3 {
		m.wait(every)
		m.see("n", "fp")
		m.want("n", pass, true)
	}
	m.wait(every)
	m.see("n", "fp")
	if s := m.want("n", warn, true); !s.Flapping || s.Text != "flapping: has stopped being well 4 times within 30m0s" {
		t.Errorf("%+v", s)
	}
	m.want("", warn, true)
	m.see("n", "f")
	if s := m.want("n", fail, false); !s.Flapping {
		t.Error("a failing node flaps no more")
	}
	m.see("n", "p")
	for m.now.Before(noon().Add(29 * time.Minute)) {
		m.wait(every)
		m.see("n", "p")
		m.want("n", warn, true)
	}
	for range 10 {
		m.wait(every)
		m.see("n", "p")
		m.Snapshot(m.now)
	}
	m.want("n", pass, true)
}

// TestFlappingEndsLate: three times are not enough to be marked, but to stay so.
func TestFlappingEndsLate(t *testing.T) {
	m := start(t, leaf("n"))
	m.see("n", "p")
	until := func(at time.Duration, state health.State) {
		t.Helper()
		for m.now.Before(noon().Add(at)) {
			m.wait(every)
			m.see("n", "p")
			m.want("n", state, true)
		}
	}
	for _, at := range []time.Duration{5, 10, 15, 20} {
		m.see("n", "fp")
		if at < 20 {
			until(at*time.Minute, pass)
		}
	}
	until(39*time.Minute+50*time.Second, warn) // the second is 30 minutes ago at 35, the third at 40
	until(41*time.Minute, pass)
	for range 20 {
		m.see("n", "fp")
	}
	b, err := m.Save(m.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(m.now, b); err != nil {
		t.Error(err)
	}
}

// TestOneOutageIsNoFlapping: what is not well cannot stop being well.
func TestOneOutageIsNoFlapping(t *testing.T) {
	m := start(t, leaf("n"))
	m.see("n", "pfufufufuffp")
	m.want("n", pass, true)
}

func TestFlappingByRestarts(t *testing.T) {
	m := start(t, leaf("n"))
	for range 4 {
		m.see("n", "p")
		m.Restarted("n", m.now)
	}
	m.see("n", "p")
	m.want("n", warn, true)
}

// TestGroups: results of children by letter, with the weight in front, and the state
// of the group. c critical, d degraded, i info.
func TestGroups(t *testing.T) {
	run := func(children string, want health.State, up bool) {
		t.Helper()
		nodes := []health.Node{{ID: "g"}}
		words := strings.Fields(children)
		for i, w := range words {
			n := leaf(fmt.Sprintf("g/%d", i))
			n.Weight = health.Weight(strings.IndexByte("cdi", w[0]))
			n.Grace = time.Minute
			if w[1:] == "n" { // never judged
				n.Grace = time.Hour
			}
			nodes = append(nodes, n)
		}
		m := start(t, nodes...)
		m.wait(time.Minute)
		for i, w := range words {
			id := fmt.Sprintf("g/%d", i)
			switch w[1:] {
			case "S": // restarted after it was well
				m.see(id, "p")
				m.Restarted(id, m.now)
			case "M":
				if err := m.SetMaintenance(id, m.now.Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			case "n":
			default:
				m.see(id, w[1:])
			}
		}
		got := m.want("g", want, up)
		if got.State != pass && len(got.Causes) == 0 && len(words) > 0 {
			t.Errorf("%s: %v without a cause", children, got.State)
		}
		if len(words) > 0 {
			m.want("", want, up)
		}
	}
	run("", unknown, false)
	run("cp", pass, true)
	run("cp cw", warn, true)
	run("cp cf", fail, false)
	run("cp cu", unknown, false)
	run("cf cu", fail, false)
	run("cw cf cu", fail, false)
	run("cp dp ip", pass, true)
	run("cp df", warn, true)
	run("cp du", warn, true)
	run("cp dw", warn, true)
	run("df", warn, true)
	run("cf df", fail, false)
	run("cp if", pass, true)
	run("cp iu", pass, true)
	run("if", pass, true)
	run("cp cS", warn, true)
	run("cS cS", starting, true)
	run("cp dS", warn, true)
	run("cp cM", warn, true)
	run("cM cM", maintenance, true)
	run("cM cS", warn, true)
	run("cM cf", fail, false)
	run("cp cn", starting, false)
	run("cn cn", starting, false)
	run("cn cS", starting, false)
	run("cn cu", unknown, false)
	run("cp dn", warn, true)
}

func TestQuorum(t *testing.T) {
	run := func(quorum, of int, children string, want health.State, up bool) *health.Standing {
		t.Helper()
		nodes := []health.Node{{ID: "g", Quorum: quorum, Of: of}}
		for i := range len(children) {
			n := leaf(fmt.Sprintf("g/%d", i))
			n.Grace = time.Minute
			switch children[i] {
			case 'i':
				n.Weight = health.Info
			case 'n': // never judged
				n.Grace = time.Hour
			}
			nodes = append(nodes, n)
		}
		m := start(t, nodes...)
		m.wait(time.Minute)
		for i, c := range children {
			id := fmt.Sprintf("g/%d", i)
			switch c {
			case 'S':
				m.see(id, "p")
				m.Restarted(id, m.now)
			case 'M':
				if err := m.SetMaintenance(id, m.now.Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			case 'n':
			case 'i':
				m.see(id, "f")
			default:
				m.see(id, string(c))
			}
		}
		return m.want("g", want, up)
	}
	run(7, 10, "pppppppppp", pass, true)
	run(7, 10, "pppppppppw", warn, true)
	run(7, 10, "pppppppppf", warn, true)
	run(7, 10, "pppppppfff", warn, true)
	s := run(7, 10, "ppppppffff", fail, false)
	if want := "6 of 10 are well, 7 have to be; not g/6, g/7, g/8 and 1 more"; s.Text != want {
		t.Errorf("text %q, want %q", s.Text, want)
	}
	if want := []string{"g/6", "g/7", "g/8", "g/9"}; !slices.Equal(s.Causes, want) {
		t.Errorf("causes %q", s.Causes)
	}
	run(7, 10, "wwwwwwwfff", warn, true)
	run(7, 10, "ppppppuuuu", unknown, false)
	run(7, 10, "ppppppfffu", unknown, false)
	run(7, 10, "pppppfffuf", fail, false)
	run(7, 10, "ppppppnnnn", starting, false)
	run(7, 10, "ppppppnfff", starting, false)
	run(7, 10, "pppppnufff", unknown, false)
	run(7, 10, "ppppppMfff", warn, true)
	run(7, 10, "ppppppSfff", warn, true)
	run(7, 10, "MMMMMMMMMM", maintenance, true)
	run(7, 10, "SSSSSSSSSS", starting, true)
	run(7, 10, "SSSSSMMMMM", starting, true)
	// Units that are not there count as not well.
	s = run(7, 10, "ppppppp", warn, true)
	if want := "7 of 10 are well, 7 have to be; 3 do not exist"; s.Text != want {
		t.Errorf("text %q, want %q", s.Text, want)
	}
	run(7, 10, "pppppp", fail, false)
	run(1, 0, "", fail, false)
	run(2, 0, "ppf", warn, true)
	run(2, 0, "pff", fail, false)
	run(2, 0, "ppi", pass, true)
	run(2, 2, "ppp", pass, true)
}

func TestDependencies(t *testing.T) {
	redis := leaf("redis")
	redis.Weight = health.Degraded
	app := health.Node{ID: "app", DependsOn: []string{"redis"}}
	m := start(t, redis, app, leaf("app/1"), leaf("app/2"))
	for _, id := range []string{"redis", "app/1", "app/2"} {
		m.see(id, "p")
	}
	m.want("", pass, true)
	m.see("app/1", "f")
	m.want("app", fail, false)
	if n := m.node("app/1"); n.Blocked || len(n.Causes) != 0 {
		t.Errorf("%+v", n)
	}
	m.see("redis", "f")
	m.want("app/1", unknown, false)
	m.want("app/2", pass, true) // it manages without
	m.see("app/2", "w")
	m.want("app/2", warn, true)
	m.see("app/2", "f")
	s := m.Snapshot(m.now)
	for _, id := range []string{"app/1", "app/2", "app"} {
		n := s.Node(id)
		if n.State != unknown || !n.Blocked || !slices.Equal(n.Causes, []string{"redis"}) || !strings.HasPrefix(n.Text, "blocked by redis") {
			t.Errorf("%+v", n)
		}
		if roots := s.Roots(id); !slices.Equal(roots, []string{"redis"}) {
			t.Errorf("roots of %s: %q", id, roots)
		}
	}
	m.want("", unknown, false)
	if roots := s.Roots(""); !slices.Equal(roots, []string{"redis"}) {
		t.Errorf("roots of the machine: %q", roots)
	}
	m.see("redis", "p")
	m.want("app/1", fail, false)
	m.want("", fail, false)
}

func TestBlockedByEveryStateThatIsNotWell(t *testing.T) {
	db, app := leaf("db"), leaf("app")
	app.DependsOn = []string{"db"}
	for _, tt := range []struct {
		prepare func(m *machine)
		want    health.State
	}{
		{func(m *machine) { m.see("db", "p") }, fail},
		{func(m *machine) { m.see("db", "w") }, fail},
		{func(m *machine) { m.see("db", "f") }, unknown},
		{func(m *machine) { m.see("db", "u") }, unknown},
		{func(m *machine) {}, unknown}, // starting
		{func(m *machine) { _ = m.SetMaintenance("db", m.now.Add(time.Hour)) }, unknown},
	} {
		m := start(t, db, app)
		tt.prepare(m)
		m.see("app", "f")
		m.want("app", tt.want, false)
		if len(m.Snapshot(m.now).Roots("nothing")) != 0 {
			t.Error("roots of nothing")
		}
	}
}

func TestMaintenance(t *testing.T) {
	m := start(t, health.Node{ID: "g"}, leaf("g/1"), leaf("g/2"), leaf("n"))
	for _, id := range []string{"g/1", "g/2", "n"} {
		m.see(id, "p")
	}
	until := m.now.Add(20 * time.Second)
	if err := m.SetMaintenance("g", until); err != nil {
		t.Fatal(err)
	}
	if err := m.SetMaintenance("g/2", m.now.Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	m.see("g/1", "f")
	if s := m.want("g", maintenance, true); len(s.Causes) != 0 {
		t.Errorf("causes %q", s.Causes)
	}
	m.want("g/1", maintenance, true)
	m.want("n", pass, true)
	m.want("", warn, true)
	if n := m.node("g/2"); !n.Until.Equal(until) || n.Text != "in maintenance until 2026-11-20T12:00:20Z" {
		t.Errorf("%+v", n)
	}
	m.wait(20 * time.Second)
	m.want("g", fail, false)
	if n := m.node("g"); !n.Until.IsZero() {
		t.Errorf("%+v", n)
	}
	if err := m.SetMaintenance("", m.now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	m.want("g/1", maintenance, true)
	m.want("n", maintenance, true)
	m.want("", maintenance, true)
	if err := m.SetMaintenance("", time.Time{}); err != nil {
		t.Fatal(err)
	}
	m.want("", fail, false)
	if err := m.SetMaintenance("x", m.now); err == nil || err.Error() != `set maintenance of "x": there is no such node` {
		t.Error(err)
	}
	if err := m.SetMaintenance("x", time.Time{}); err == nil {
		t.Error("a maintenance was ended that there has never been")
	}
	if err := errors.Join(m.SetMaintenance("n", m.now.Add(time.Hour)), m.Replace(m.now, nil), m.SetMaintenance("n", time.Time{})); err != nil {
		t.Errorf("end that of a node that is gone: %v", err)
	}
}

func TestTransitions(t *testing.T) {
	m := start(t, leaf("n"))
	m.wait(time.Second)
	m.see("n", "p")
	m.Snapshot(m.now)
	m.wait(every)
	m.see("n", "f")
	s := m.want("n", fail, false)
	want := []health.Transition{
		{At: noon().Add(time.Second), From: starting, To: pass},
		{At: noon().Add(11 * time.Second), From: pass, To: fail, Text: "it is fail"},
	}
	if !slices.Equal(s.Transitions, want) || !s.Since.Equal(want[1].At) {
		t.Errorf("%+v", s)
	}
	for i := range 40 {
		m.wait(every)
		m.see("n", []string{"p", "f"}[i%2])
		m.Snapshot(m.now)
	}
	last := m.node("n").Transitions
	if len(last) != health.MaxTransitions || !last[len(last)-1].At.Equal(m.now) || !slices.Equal(s.Transitions, want) {
		t.Errorf("%d transitions, or an old snapshot has changed: %v", len(last), s.Transitions)
	}
}

func TestReplace(t *testing.T) {
	m := start(t, leaf("old"), leaf("stays"))
	m.see("old", "p")
	m.see("stays", "p")
	m.wait(5 * time.Second)
	if err := m.Replace(m.now, []health.Node{leaf("stays"), leaf("new")}); err != nil {
		t.Fatal(err)
	}
	m.want("stays", pass, true)
	m.want("new", starting, false)
	m.want("", starting, false)
	if m.Snapshot(m.now).Node("old") != nil || m.see("old", "f") {
		t.Error("old is still there")
	}
	if err := m.Replace(m.now, []health.Node{leaf("stays"), leaf("stays")}); err == nil {
		t.Error("two of an id")
	}
	m.want("new", starting, false)
	// Back within three intervals, as after a hiccup of the message bus.
	m.wait(5 * time.Second)
	if err := m.Replace(m.now, []health.Node{leaf("stays"), leaf("old")}); err != nil {
		t.Fatal(err)
	}
	m.want("old", pass, true)
	// A long time later its results count no more, and those who come then are newcomers.
	if err := m.Replace(m.now, []health.Node{leaf("stays")}); err != nil {
		t.Fatal(err)
	}
	m.wait(2 * time.Minute)
	m.see("stays", "p")
	if err := m.Replace(m.now, []health.Node{leaf("stays"), leaf("old"), leaf("newest")}); err != nil {
		t.Fatal(err)
	}
	m.want("old", starting, true)
	m.want("newest", starting, true)
	m.want("", warn, true)
	// What was checked becomes a group, and begins anew.
	if err := m.Replace(m.now, []health.Node{{ID: "stays"}, leaf("stays/1")}); err != nil {
		t.Fatal(err)
	}
	m.see("stays/1", "p")
	m.want("stays", pass, true)
	if err := m.SetMaintenance("stays/1", m.now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	m.want("stays", maintenance, true)
	if err := m.Replace(m.now, []health.Node{leaf("stays")}); err != nil {
		t.Fatal(err)
	}
	m.want("stays", starting, true)
}

func TestSnapshotAsJSON(t *testing.T) {
	n := leaf("app/1")
	n.Public, n.Weight = "App One", health.Degraded
	m := start(t, health.Node{ID: "app", Quorum: 1, Of: 2}, n)
	m.Observe("app/1", m.now, health.Result{State: warn, Text: "slow", Duration: time.Second, Values: []health.Value{{Name: "lag_seconds", Value: 3}}})
	b, err := json.Marshal(m.Snapshot(m.now))
	if err != nil {
		t.Fatal(err)
	}
	const at = `"2026-11-20T12:00:00Z"`
	want := `{"at":` + at + `,"state":"warn","up":true,"since":` + at + `,"text":"app: 1 of 2 are well, 1 have to be; not app/1; 1 do not exist","causes":["app"],` +
		`"transitions":[{"at":` + at + `,"from":"starting","to":"warn","text":"app: 1 of 2 are well, 1 have to be; not app/1; 1 do not exist"}],"nodes":[` +
		`{"id":"app","weight":"critical","state":"warn","up":true,"since":` + at + `,"text":"1 of 2 are well, 1 have to be; not app/1; 1 do not exist","causes":["app/1"],` +
		`"transitions":[{"at":` + at + `,"from":"starting","to":"warn","text":"1 of 2 are well, 1 have to be; not app/1; 1 do not exist"}],"well":1,"children":2},` +
		`{"id":"app/1","public":"App One","parent":"app","weight":"degraded","state":"warn","up":true,"since":` + at + `,"text":"slow",` +
		`"transitions":[{"at":` + at + `,"from":"starting","to":"warn","text":"slow"}],` +
		`"last":{"state":"warn","text":"slow","duration_ns":1000000000,"values":[{"name":"lag_seconds","value":3}]},"checked_at":` + at + `}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var read health.Snapshot
	if err := json.Unmarshal(b, &read); err != nil {
		t.Fatal(err)
	}
	if n := read.Node("app/1"); n == nil || n.Text != "slow" || !slices.Equal(read.Roots(""), []string{"app/1"}) || read.Node("app/2") != nil {
		t.Errorf("read again: %+v, roots %q", n, read.Roots(""))
	}
}

func TestTextsOfTargetsAreBounded(t *testing.T) {
	m := start(t, leaf("n"))
	m.Observe("n", m.now, health.Result{State: fail, Text: strings.Repeat("ä", 400) + "\xff"})
	if text := m.node("n").Text; text != strings.Repeat("ä", 256) {
		t.Errorf("%d bytes", len(text))
	}
	m.Observe("n", m.now, health.Result{State: fail, Text: "a" + strings.Repeat("ä", 400)})
	if text := m.node("n").Text; text != "a"+strings.Repeat("ä", 255)+"\uFFFD" {
		t.Errorf("%d bytes, the end is %q", len(text), text[len(text)-5:])
	}
}

func TestConcurrency(t *testing.T) {
	nodes := []health.Node{{ID: "g", Quorum: 2}, leaf("g/1"), leaf("g/2"), leaf("g/3")}
	m := start(t, nodes...)
	var wg sync.WaitGroup
	for i := range 3 {
		id := fmt.Sprintf("g/%d", i+1)
		wg.Go(func() {
			for j := range 200 {
				m.Observe(id, noon().Add(time.Duration(j)*time.Second), health.Result{State: health.State(j % 4)})
			}
		})
	}
	wg.Go(func() {
		for j := range 200 {
			at := noon().Add(time.Duration(j) * time.Second)
			s := m.Snapshot(at)
			if _, err := json.Marshal(s); err != nil {
				t.Error(err)
			}
			m.Restarted("g", at)
			_ = m.SetMaintenance("g/1", at)
			if _, err := m.Save(at); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for j := range 100 {
			if err := m.Replace(noon(), nodes[:2+j%3]); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}
