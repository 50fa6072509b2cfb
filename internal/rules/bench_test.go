package rules

import (
	"fmt"
	"testing"
	"time"

	"sidecar/internal/parse"
	"sidecar/internal/record"
)

// typical returns a record as a service of the users logs it, parsed.
func typical(tb testing.TB) (*record.Entry, *record.Record) {
	tb.Helper()
	e := &record.Entry{Priority: 6, Seq: 1, TimeUsec: 1_790_000_000_000_000, ID: []byte("0123456789abcdef0123456789abcdef"),
		Host: []byte("web-01"), Identifier: []byte("node"), Unit: []byte("checkout-api.service"), PID: []byte("4312"),
		Transport: []byte("stdout"), BootID: []byte("0123456789abcdef0123456789abcdef"),
		Message: []byte(`_jsonrc:{"level":"info","message":"GET /api/orders/7 200 in 12 ms","timestamp":"2026-09-21T13:33:20.000Z","requestId":"b7ad6b71",` +
			`"path":"/api/orders/7","method":"GET","statusCode":200,"responseTime":12.5,"user":{"id":7,"role":"admin"},"service":"checkout","note":"a \"b\""}`)}
	recs := parse.New(parse.Options{}).Parse(nil, e)
	if len(recs) != 1 || len(recs[0].Fields) < 12 {
		tb.Fatalf("%d records", len(recs))
	}
	return e, &recs[0]
}

// ruleSet returns n rules of all kinds that do not match a typical record but for
// the last, if hit.
func ruleSet(n int, hit bool) (rules []Rule) {
	for i := range n {
		r := Rule{Name: fmt.Sprint(i), Action: "set", Set: map[string]string{"team": "web"}}
		switch i % 4 {
		case 0:
			r.Match = Match{Unit: "nginx*", LevelOver: "info", Field: map[string]string{"path": "/health*"}}
		case 1:
			r.Match = Match{Field: map[string]string{"path": "/health*"}}
		case 2:
			r.Match = Match{Message: "*deprecated*"}
		case 3:
			r.Match = Match{Identifier: "cron", Level: []string{"debug"}}
		}
		if hit && i == n-1 {
			r.Match = Match{Unit: "checkout*", Field: map[string]string{"path": "/api/*", "note": `a "b"`}}
		}
		rules = append(rules, r)
	}
	return rules
}

func BenchmarkApply(b *testing.B) {
	run := func(name string, o Options) {
		b.Run(name, func(b *testing.B) {
			r := must(b, o)
			e, rec := typical(b)
			n := len(rec.Fields)
			b.ReportAllocs()
			for b.Loop() {
				rec.Fields = rec.Fields[:n]
				e.TimeUsec += 1000
				if !r.Apply(e, rec) {
					b.Fatal("dropped")
				}
			}
		})
	}
	for _, n := range []int{0, 1, 10} {
		run(fmt.Sprintf("rules=%d", n), Options{Rules: ruleSet(n, false)})
	}
	run("rules=10/hit", Options{Rules: ruleSet(10, true)})
	run("regexp", Options{Rules: []Rule{{Name: "r", Action: "level", To: "info", Match: Match{Field: map[string]string{"path": "~^/health"}}}}})
	run("aliases", Options{Aliases: true})
	run("limit", Options{Limits: Limits{Rate: 1000, Burst: 1000, Summary: time.Minute}})
}

func TestApplyDoesNotAllocate(t *testing.T) {
	for title, o := range map[string]Options{
		"no rules": {},
		"no match": {Rules: ruleSet(10, false)},
		"a match":  {Rules: ruleSet(10, true)},
		"everything": {Aliases: true, Limits: Limits{Rate: 1, Burst: 1, Summary: time.Minute}, Rules: append(ruleSet(10, true),
			Rule{Name: "rename", Action: "rename", Rename: map[string]string{"statusCode": "status"}},
			Rule{Name: "level", Action: "level", To: "notice", Match: Match{Message: "G?T *", Identifier: "~^no"}},
			Rule{Name: "sample", Action: "sample", Rate: 0.5})},
	} {
		r := must(t, o)
		e, rec := typical(t)
		n, status := len(rec.Fields), find(rec, record.NewName("statusCode"))
		name := rec.Fields[status].Name
		one := func() {
			rec.Fields = rec.Fields[:n]
			rec.Fields[status].Name = name
			r.Apply(e, rec)
		}
		one() // the first makes room for fields, and for the unit
		if n := testing.AllocsPerRun(1000, one); n > 0 {
			t.Errorf("%s: %.0f allocations per record", title, n)
		}
	}
}

// TestCountsFromAnotherGoroutine is for the race detector.
func TestCountsFromAnotherGoroutine(t *testing.T) {
	r := must(t, Options{Rules: ruleSet(1, true)})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			r.Counts(nil)
		}
	}()
	e, rec := typical(t)
	for range 100 {
		r.Apply(e, rec)
	}
	<-done
	want := []Count{{"0", "set", false, 100}, {"", "limit", true, 0}}
	if got := r.Counts(nil); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, want %+v", got, want)
	}
}
