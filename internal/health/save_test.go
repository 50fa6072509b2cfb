package health_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sidecar/internal/health"
)

func (m *machine) save() []byte {
	m.Helper()
	b, err := m.Save(m.now)
	if err != nil {
		m.Fatal(err)
	}
	return b
}

// again is a new process with the state of the one before.
func (m *machine) again(after time.Duration, nodes ...health.Node) *machine {
	m.Helper()
	b := m.save()
	m.wait(after)
	tree, err := health.New(m.now, nodes)
	if err != nil {
		m.Fatal(err)
	}
	if err := tree.Restore(m.now, b); err != nil {
		m.Fatal(err)
	}
	return &machine{m.T, tree, m.now}
}

func TestRestored(t *testing.T) {
	n := leaf("n")
	n.Fall, n.Hold = 3, 90*time.Second
	t.Run("hysteresis goes on", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "pff")
		m = m.again(every, n)
		m.want("n", pass, true)
		m.see("n", "f")
		m.want("n", fail, false)
	})
	t.Run("so does the hold", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "pfff")
		m = m.again(every, n)
		m.see("n", "p")
		m.want("n", fail, false)
		m = m.again(79*time.Second, n)
		m.want("n", fail, false)
		m.wait(time.Second)
		m.see("n", "p")
		m.want("n", pass, true)
	})
	t.Run("the hold of a group too, and it begins once", func(t *testing.T) {
		nodes := []health.Node{{ID: "g", Hold: 60 * time.Second}, leaf("g/1")}
		m := start(t, nodes...)
		m.see("g/1", "f")
		m.want("g", fail, false)
		m = m.again(20*time.Second, nodes...)
		m.see("g/1", "f")
		m.want("g", fail, false)
		m.wait(20 * time.Second)
		m.see("g/1", "p")
		m.want("g", fail, false)
		m.wait(20 * time.Second)
		m.want("g", pass, true)
	})
	t.Run("a stale node begins anew", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "p")
		m.Snapshot(m.now)
		m = m.again(31*time.Second, n)
		m.want("n", starting, false)
		if x := m.node("n"); len(x.Transitions) != 2 || !x.CheckedAt.IsZero() {
			t.Errorf("%+v", x)
		}
	})
	t.Run("maintenance goes on", func(t *testing.T) {
		m := start(t, n, leaf("o"))
		if err := errors.Join(m.SetMaintenance("n", m.now.Add(time.Minute)), m.SetMaintenance("o", m.now.Add(-1))); err != nil {
			t.Fatal(err)
		}
		if b := m.save(); strings.Contains(string(b), `"o":"`) {
			t.Errorf("a maintenance that is over is saved: %s", b)
		}
		m = m.again(time.Second, n)
		m.want("n", maintenance, true)
	})
	t.Run("a node that joins later", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "p")
		m = m.again(every, leaf("o")).again(every, leaf("o"))
		if err := m.Replace(m.now, []health.Node{n}); err != nil {
			t.Fatal(err)
		}
		m.want("n", pass, true)
	})
	t.Run("a node that never does is forgotten a day after it left", func(t *testing.T) {
		m := start(t, n)
		m = m.again(0, leaf("o")).again(24*time.Hour, leaf("o"))
		if b := m.save(); !strings.Contains(string(b), `"n":{`) {
			t.Errorf("forgotten too early: %s", b)
		}
		m = m.again(1, leaf("o"))
		if b := m.save(); strings.Contains(string(b), `"n":{`) {
			t.Errorf("not forgotten: %s", b)
		}
	})
	t.Run("a node that has become a group", func(t *testing.T) {
		m := start(t, n)
		m.see("n", "pfff")
		m = m.again(every, health.Node{ID: "n", Hold: time.Hour}, leaf("n/1"))
		m.see("n/1", "p")
		m.want("n", pass, true)
	})
}

func TestRestoreRefuses(t *testing.T) {
	m := start(t, leaf("n"))
	m.see("n", "p")
	good := string(m.save())
	if err := m.Restore(m.now, []byte(good)); err != nil {
		t.Fatal(err)
	}
	change := func(from, to string) string {
		t.Helper()
		if !strings.Contains(good, from) {
			t.Fatalf("no %s in %s", from, good)
		}
		return strings.Replace(good, from, to, 1)
	}
	times := func(n int, s string) string { return "[" + strings.Repeat(s+",", n-1) + s + "]" }
	for _, bad := range []string{
		"", "null", "[]", "{}", good[:len(good)-1],
		change(`"version":1`, `"version":2`),
		change(`"version":1`, `"version":1,"more":1`),
		change(`"window":"p"`, `"window":"x"`),
		change(`"window":"p"`, `"window":"`+strings.Repeat("p", health.MaxWindow+1)+`"`),
		change(`"settled":"pass"`, `"settled":"well"`),
		change(`"settled":"pass"`, `"settled":"maintenance"`),
		change(`"window":"p"`, `"falls":`+times(5, `"2026-11-20T12:00:00Z"`)),
		change(`"window":"p"`, `"transitions":`+times(health.MaxTransitions+1, `{"at":"2026-11-20T12:00:00Z","from":"pass","to":"fail"}`)),
	} {
		if err := m.Restore(m.now, []byte(bad)); !errors.Is(err, health.ErrState) {
			t.Errorf("%v for %s", err, bad)
		}
	}
	m.want("n", pass, true)
}

func TestEachRootIsNamedOnce(t *testing.T) {
	one, two := leaf("one"), leaf("two")
	one.DependsOn, two.DependsOn = []string{"redis"}, []string{"redis"}
	redis := leaf("redis")
	redis.Weight = health.Info
	m := start(t, one, two, redis)
	for _, id := range []string{"one", "two", "redis"} {
		m.see(id, "f")
	}
	if roots := m.Snapshot(m.now).Roots(""); !slices.Equal(roots, []string{"redis"}) {
		t.Errorf("%q", roots)
	}
}

func TestTheLongestMaintenanceCounts(t *testing.T) {
	m := start(t, health.Node{ID: "g"}, leaf("g/1"), leaf("g/2"))
	long := m.now.Add(time.Hour)
	if err := errors.Join(m.SetMaintenance("g", m.now.Add(time.Minute)), m.SetMaintenance("g/1", long), m.SetMaintenance("g/2", m.now.Add(time.Second))); err != nil {
		t.Fatal(err)
	}
	if one, two := m.node("g/1"), m.node("g/2"); !one.Until.Equal(long) || !two.Until.Equal(m.now.Add(time.Minute)) {
		t.Errorf("%v %v", one.Until, two.Until)
	}
}
