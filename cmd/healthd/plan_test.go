package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/discover"
	"sidecar/internal/health"
	"sidecar/internal/probe"
)

// planned returns the nodes of a configuration and of units, a line each, and what is
// wrong.
func planned(t *testing.T, text string, set *discover.Set) (nodes string, problems []string, p *planner) {
	t.Helper()
	c, _, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	p = newPlanner(c, probe.Env{Unit: noUnits, Heartbeats: probe.NewHeartbeats(nil)})
	p.addConfig()
	p.addUnits(set)
	p.finish()
	if _, err := health.New(time.Unix(0, 0), p.nodes); err != nil {
		t.Fatalf("the judge does not take it: %v", err)
	}
	var b strings.Builder
	for _, n := range p.nodes {
		fmt.Fprintf(&b, "%s in %q %s", n.ID, n.Parent, n.Weight)
		if n.Public != "" {
			fmt.Fprintf(&b, " public %s", n.Public)
		}
		if n.Quorum > 0 {
			fmt.Fprintf(&b, " %d of %d", n.Quorum, n.Of)
		}
		if n.Every > 0 {
			fmt.Fprintf(&b, " every %v rise %d fall %d", n.Every, n.Rise, n.Fall)
		}
		if len(n.DependsOn) > 0 {
			fmt.Fprintf(&b, " on %v", n.DependsOn)
		}
		b.WriteString("\n")
	}
	for _, f := range p.found {
		for _, text := range f.Problems {
			problems = append(problems, f.Name+": "+text)
		}
	}
	ids := map[string]bool{}
	for _, n := range p.nodes {
		ids[n.ID] = n.Every > 0
	}
	for _, check := range p.checks {
		if !ids[check.ID] {
			t.Errorf("check %q has no node that is checked", check.ID)
		}
		delete(ids, check.ID)
	}
	for id, checked := range ids {
		if checked {
			t.Errorf("node %q has no check", id)
		}
	}
	return b.String(), problems, p
}

// service returns an app as discover finds it.
func service(t *testing.T, name, section string, instances ...string) discover.App {
	t.Helper()
	s, _, problems := discover.ParseSection("[X-Healthd]\n" + section)
	a := discover.App{Name: name, Section: s, Problems: problems}
	for _, i := range instances {
		w := discover.Worker{Name: i, Unit: name + "@" + i + ".service"}
		if i == "" {
			w.Unit = name + ".service"
		}
		for _, h := range s.Health {
			url, err := discover.Expand(h, w.Unit, i)
			if err != nil {
				t.Fatal(err)
			}
			w.Health = append(w.Health, url)
		}
		a.Workers = append(a.Workers, w)
	}
	return a
}

func TestPlan(t *testing.T) {
	nodes, problems, p := planned(t, `
[group.shop]
public = "Shop"
weight = "critical"
quorum = 1
[target.redis]
checks = ["redis://127.0.0.1:6379"]
weight = "critical"
fall = 5
[target.db]
checks = ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]
group = "shop"
interval = "3s"
timeout = "1s"
`, &discover.Set{Apps: []discover.App{
		service(t, "cron", "Info=yes", ""),
		service(t, "pay", "Health=http://127.0.0.1:30%i/h\nWorkers=3\nPublic=Payments\nCritical=yes\nDependsOn=redis\nGroup=shop", "1", "2", "3"),
		service(t, "web", "Health=tcp://127.0.0.1:80\nQuorum=0", ""),
	}})
	want := `shop in "" critical public Shop 1 of 0
db in "shop" degraded
db/tcp in "db" critical every 3s rise 2 fall 3
db/tcp-2 in "db" critical every 3s rise 2 fall 3
redis in "" critical every 10s rise 2 fall 5
cron in "" info every 10s rise 0 fall 0
pay in "shop" critical public Payments 2 of 3 on [redis]
pay/1 in "pay" critical
pay/1/unit in "pay/1" critical every 10s rise 0 fall 0
pay/1/http in "pay/1" critical every 10s rise 2 fall 3 on [pay/1/unit]
pay/2 in "pay" critical
pay/2/unit in "pay/2" critical every 10s rise 0 fall 0
pay/2/http in "pay/2" critical every 10s rise 2 fall 3 on [pay/2/unit]
pay/3 in "pay" critical
pay/3/unit in "pay/3" critical every 10s rise 0 fall 0
pay/3/http in "pay/3" critical every 10s rise 2 fall 3 on [pay/3/unit]
web in "" degraded
web/unit in "web" critical every 10s rise 0 fall 0
web/tcp in "web" critical every 10s rise 2 fall 3 on [web/unit]
`
	if d := cmp.Diff(want, nodes); d != "" || len(problems) > 0 {
		t.Error(d, problems)
	}
	if d := cmp.Diff(unitNodes{[]string{"pay/2/unit"}, []string{"pay/2"}}, p.units["pay@2.service"], cmp.AllowUnexported(unitNodes{})); d != "" {
		t.Error(d)
	}
	if got := p.found[3]; got.Source != "pay@.service" || got.Quorum != 2 || len(got.Checks) != 6 || got.Checks[3] != "http://127.0.0.1:302/h" {
		t.Errorf("found %+v", got)
	}
}

// TestPlanOfMistakes: what is wrong with a unit costs that, and nothing else.
func TestPlanOfMistakes(t *testing.T) {
	nodes, problems, p := planned(t, "[target.a]\nchecks = ['tcp://127.0.0.1:1']\npublic = 'A'", &discover.Set{Apps: []discover.App{
		service(t, "a", "", ""),
		service(t, "b", "Public=A\nGroup=none\nDependsOn=nobody a\nHealth=nonsense", ""),
		service(t, "c", "Public=ALL-OK\nNonsense=1", ""),
	}})
	want := `a in "" degraded public A every 10s rise 2 fall 3
b in "" degraded on [a]
b/unit in "b" critical every 10s rise 0 fall 0
b/broken in "b" critical every 10s rise 2 fall 3 on [b/unit]
c in "" degraded every 10s rise 0 fall 0
`
	if d := cmp.Diff(want, nodes); d != "" {
		t.Error(d)
	}
	for i, want := range []string{`a: the name "a" is taken`, `b: there is no group "none"`, `b: the public name "A" is that of a already`,
		`b: parse check`, `b: it depends on "nobody"`, `c: line 3: "Nonsense"`, `c: public name "ALL-OK"`} {
		if i >= len(problems) || !strings.HasPrefix(problems[i], want) {
			t.Errorf("problem %d of %q: want %s", i, problems, want)
		}
	}
	for _, check := range p.checks {
		if check.Kind == "broken" {
			if r := check.Run(t.Context()); r.State != health.Unknown || !strings.Contains(r.Text, "want scheme:target") {
				t.Errorf("a check that cannot be made: %+v", r)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	var h history
	l := limits{memoryBytes: 100 << 20, cpuPercent: 50}
	step := func(after time.Duration, restarts, memory, cpu float64, want string) {
		t.Helper()
		at = at.Add(after)
		r := health.Result{Values: []health.Value{{Name: "restarts_total", Value: restarts}, {Name: "memory_bytes", Value: memory}, {Name: "cpu_seconds_total", Value: cpu}}}
		if got := l.exceeded(&h, at, r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	step(0, 7, 100<<20, 1000, "") // what was before is no news
	step(10*time.Second, 7, 100<<20+1<<20, 1000, "uses 101 MiB of memory, more than 100")
	step(10*time.Second, 7, 0, 1020, "") // a burst
	step(40*time.Second, 7, 0, 1030, "") // 50 % of a minute
	step(time.Minute, 7, 0, 1061, "uses 52 % of a processor, more than 50")
	step(time.Minute, 8, 0, 1, "") // a new run counts from 0
	step(time.Second, 9, 0, 1, "")
	step(time.Second, 10, 0, 1, "3 restarts within 10m0s")
	step(9*time.Minute, 10, 0, 1, "3 restarts within 10m0s")
	step(time.Minute, 10, 0, 1, "")
	step(time.Minute, 0, 0, 1, "") // started by hand
	step(time.Second, 100, 0, 1, "3 restarts within 10m0s")
}

func TestAsUnit(t *testing.T) {
	for _, c := range []struct {
		state discover.State
		want  health.State
		text  string
	}{
		{discover.State{Active: "active", Sub: "running"}, health.Pass, "active (running)"},
		{discover.State{}, health.Fail, "unit is not-found"},
		{discover.State{Active: "failed", Sub: "failed", Result: "oom-kill"}, health.Fail, "failed (failed), last result: oom-kill"},
		{discover.State{Active: "activating", Sub: "auto-restart"}, health.Fail, "activating (auto-restart)"},
		{discover.State{Active: "activating", Sub: "start"}, health.Starting, "activating (start)"},
		{discover.State{Active: "deactivating", Sub: "stop-sigterm"}, health.Warn, "deactivating (stop-sigterm)"},
	} {
		r := asUnit(c.state, discover.Usage{}).Health(false)
		if r.State != c.want || r.Text != c.text || len(r.Values) != 1 {
			t.Errorf("%+v: got %s %q %v", c.state, r.State, r.Text, r.Values)
		}
	}
	r := asUnit(discover.State{Active: "active", Restarts: 4}, discover.Usage{MemoryKnown: true, MemoryBytes: 5, CPUKnown: true, CPU: time.Minute}).Health(false)
	if d := cmp.Diff([]health.Value{{Name: "restarts_total", Value: 4}, {Name: "memory_bytes", Value: 5}, {Name: "cpu_seconds_total", Value: 60}}, r.Values); d != "" {
		t.Error(d)
	}
}
