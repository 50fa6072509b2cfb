package promtext

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"

	"sidecar/test/cputime"
)

// measure begins to measure work on so many series, whose pages have so many bytes;
// what it returns ends that and reports.
func measure(b *testing.B, series, size int) (report func()) {
	b.ReportAllocs()
	b.SetBytes(int64(size))
	return cputime.StartEach(b, series, "cpu-ns/series")
}

// scene is a set of targets with two pages each, which differ in their values.
type scene struct {
	targets []*Target
	pages   [][2][]byte
	series  int
	size    int
}

func newScene(tb testing.TB, targets, series int, values bool) *scene {
	s := &scene{}
	for i := range targets {
		t := NewTarget(Options{App: "shop", Worker: fmt.Sprint(i), Values: values})
		s.targets = append(s.targets, t)
		s.pages = append(s.pages, [2][]byte{bigPage(tb, series, 2*i+1), bigPage(tb, series, 2*i+2)})
		report := read(tb, t, string(s.pages[i][0]), Text)
		s.series += report.Series
		s.size += len(s.pages[i][0])
	}
	return s
}

// scrape reads the other pages.
func (s *scene) scrape(tb testing.TB, n int) {
	for i, t := range s.targets {
		if report, err := t.Read(s.pages[i][n%2], Text); err != nil || !report.Memo {
			tb.Fatal(report, err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	b.Run("memo", func(b *testing.B) {
		s := newScene(b, 1, 10_000, false)
		report := measure(b, s.series, s.size)
		for n := 0; b.Loop(); n++ {
			s.scrape(b, n+1)
		}
		report()
	})
	b.Run("values", func(b *testing.B) {
		s := newScene(b, 1, 10_000, true)
		report := measure(b, s.series, s.size)
		for n := 0; b.Loop(); n++ {
			s.scrape(b, n+1)
		}
		report()
	})
	b.Run("validating", func(b *testing.B) {
		s := newScene(b, 1, 10_000, false)
		report := measure(b, s.series, s.size)
		for b.Loop() {
			if _, err := s.targets[0].build(s.pages[0][0], Text); err != nil {
				b.Fatal(err)
			}
		}
		report()
	})
}

// BenchmarkMerge is a whole scrape but for the network: pages are read and merged.
func BenchmarkMerge(b *testing.B) {
	for _, size := range [][2]int{{10, 10_000}, {20, 2_000}, {1, 1_000}, {1, 100_000}, {200, 200}} {
		b.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(b *testing.B) {
			s := newScene(b, size[0], size[1], false)
			var m Merger
			var page []byte
			report := measure(b, s.series, s.size)
			for n := 0; b.Loop(); n++ {
				s.scrape(b, n+1)
				page, _ = m.Append(page[:0], Text, s.targets, nil)
			}
			report()
		})
	}
}

// BenchmarkSum is a whole scrape of one app whose families are summed.
func BenchmarkSum(b *testing.B) {
	s := newScene(b, 10, 10_000, true)
	summer := NewSummer("shop", append(PromClientRules(), sumAll...), 100_000, 1)
	summers := []*Summer{summer}
	var m Merger
	var page []byte
	summer.Sum(s.targets)
	report := measure(b, s.series, s.size)
	for b.Loop() {
		s.scrape(b, 0) // the same page: values that fall would be restarts
		summer.Sum(s.targets)
		page, _ = m.Append(page[:0], Text, s.targets, summers)
	}
	report()
}

// BenchmarkExpfmt does with the library of Prometheus what BenchmarkMerge does: parse,
// label, merge, encode.
func BenchmarkExpfmt(b *testing.B) {
	s := newScene(b, 10, 10_000, false)
	app, worker := "app", "worker"
	shop := "shop"
	report := measure(b, s.series, s.size)
	for b.Loop() {
		all := map[string]*dto.MetricFamily{}
		for i, pages := range s.pages {
			parser := expfmt.NewTextParser(model.LegacyValidation)
			families, err := parser.TextToMetricFamilies(bytes.NewReader(pages[0]))
			if err != nil {
				b.Fatal(err)
			}
			name := fmt.Sprint(i)
			for _, f := range families {
				for _, m := range f.Metric {
					m.Label = append(m.Label, &dto.LabelPair{Name: &app, Value: &shop}, &dto.LabelPair{Name: &worker, Value: &name})
				}
				if first := all[f.GetName()]; first != nil {
					first.Metric = append(first.Metric, f.Metric...)
				} else {
					all[f.GetName()] = f
				}
			}
		}
		var out bytes.Buffer
		encoder := expfmt.NewEncoder(&out, expfmt.NewFormat(expfmt.TypeTextPlain))
		for _, f := range all {
			if err := encoder.Encode(f); err != nil {
				b.Fatal(err)
			}
		}
	}
	report()
}
