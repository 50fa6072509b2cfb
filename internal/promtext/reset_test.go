package promtext

import "testing"

// TestReset: a target that was reset is like a new one, also for a merger and a summer
// that know it.
func TestReset(t *testing.T) {
	target := NewTarget(Options{App: "shop", Worker: "1", Values: true})
	summer := NewSummer("shop", []Rule{{"a_total", Sum}}, 10, 1)
	var m Merger
	merged := func() string {
		summer.Sum([]*Target{target})
		page, _ := m.Append(nil, Text, []*Target{target}, []*Summer{summer})
		return string(page)
	}
	const page = "# TYPE a_total counter\na_total 5\nb 1\n"
	const want = "# TYPE a_total counter\na_total{app=\"shop\"} 5\n# TYPE b untyped\nb{app=\"shop\",worker=\"1\"} 1\n"
	for range 2 {
		if report, err := target.Read([]byte(page), Text); err != nil || report.Memo {
			t.Fatal(report, err)
		}
		if got := merged(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if target.Reset(); cap(target.tails)+cap(target.heads)+cap(target.lines)+cap(target.values)+len(target.series.hashes) > 0 {
			t.Error("memory is kept")
		}
		if got := merged(); got != "" {
			t.Errorf("a target without a page: %s", got)
		}
	}
}
