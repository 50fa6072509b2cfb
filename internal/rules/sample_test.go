package rules

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"sidecar/internal/record"
)

// sampled returns which of n records with the ids of one stream are kept.
func sampled(t interface{ Fatal(...any) }, name string, rate float64, stream string, n int) (kept []bool, count int) {
	r, err := New(Options{Rules: []Rule{{Name: name, Action: "sample", Rate: rate}}})
	if err != nil {
		t.Fatal(err)
	}
	var e record.Entry
	for i := range n {
		rec := record.Record{ID: fmt.Appendf(nil, "%s%x", stream, i), Level: 6}
		keep := r.Apply(&e, &rec)
		kept = append(kept, keep)
		if keep {
			count++
		}
	}
	if c := r.Counts(nil)[0]; c != (Count{name, "sample", true, uint64(n - count)}) {
		t.Fatal(fmt.Sprintf("%+v, %d of %d kept", c, count, n))
	}
	return kept, count
}

// TestSampleRate: the share that is kept is the rate, for ids that count up, and a
// re-send decides the same. 6 standard deviations happen once in 500 million runs.
func TestSampleRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 4000
		rate := rapid.Float64Range(0.01, 0.99).Draw(t, "rate")
		stream := rapid.StringMatching(`[0-9a-f]{0,32}-`).Draw(t, "stream")
		kept, count := sampled(t, "s", rate, stream, n)
		again, _ := sampled(t, "s", rate, stream, n)
		for i := range kept {
			if kept[i] != again[i] {
				t.Fatalf("record %d is decided in two ways", i)
			}
		}
		if got, sigma := float64(count)/n, math.Sqrt(rate*(1-rate)/n); math.Abs(got-rate) > 6*sigma {
			t.Fatalf("%.3f are kept, want %.3f", got, rate)
		}
	})
}

// TestSamplesAreIndependent: a second rule samples what the first one left.
func TestSamplesAreIndependent(t *testing.T) {
	const n = 20000
	a, _ := sampled(t, "a", 0.5, "e", n)
	b, _ := sampled(t, "b", 0.5, "e", n)
	both := 0
	for i := range a {
		if a[i] && b[i] {
			both++
		}
	}
	if share := float64(both) / n; math.Abs(share-0.25) > 0.02 {
		t.Errorf("both keep %.3f, want 0.25", share)
	}
}

// TestSampleKeepsMoreAtHigherRates: a record that is kept at a rate is kept at
// every higher one.
func TestSampleKeepsMoreAtHigherRates(t *testing.T) {
	low, _ := sampled(t, "a", 0.2, "e", 2000)
	high, _ := sampled(t, "a", 0.7, "e", 2000)
	for i := range low {
		if low[i] && !high[i] {
			t.Fatalf("record %d", i)
		}
	}
}

func TestSampleWithoutID(t *testing.T) {
	r := must(t, Options{Rules: []Rule{{Name: "s", Action: "sample", Rate: 0.5}}})
	count := 0
	for i := range 1000 {
		e := record.Entry{Message: fmt.Appendf(nil, "line %d", i)}
		var first, second record.Record
		keep := r.Apply(&e, &first)
		if keep != r.Apply(&e, &second) {
			t.Fatalf("line %d is decided in two ways", i)
		}
		if keep {
			count++
		}
	}
	if count < 400 || count > 600 {
		t.Errorf("%d of 1000 are kept", count)
	}
}
