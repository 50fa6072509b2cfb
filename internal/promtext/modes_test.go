package promtext

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// fleet is some workers of an app and their summer.
type fleet struct {
	targets []*Target
	summer  *Summer
	merger  Merger
}

func newFleet(workers int, rules ...Rule) *fleet {
	f := &fleet{summer: NewSummer("x", rules, 100, 1)}
	for i := range workers {
		f.targets = append(f.targets, NewTarget(Options{App: "x", Worker: fmt.Sprint(i), Values: true}))
	}
	return f
}

// scrape gives each worker its page, none for "-", and returns the samples of the
// merged page.
func (f *fleet) scrape(t *testing.T, pages ...string) (string, SumReport) {
	t.Helper()
	for i, page := range pages {
		f.targets[i].Clear()
		if page != "-" {
			read(t, f.targets[i], page, Text)
		}
	}
	report := f.summer.Sum(f.targets)
	page, _ := f.merger.Append(nil, Text, f.targets, []*Summer{f.summer})
	checkText(t, page)
	if c := f.merger.Conflicts(); len(c) > 0 {
		t.Errorf("conflicts %+v", c)
	}
	return strings.Join(samples(string(page)), "\n"), report
}

func (f *fleet) want(t *testing.T, want string, pages ...string) SumReport {
	t.Helper()
	got, report := f.scrape(t, pages...)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	return report
}

const gaugeType = "# TYPE g gauge\n"

// TestGaugeModes: each mode with workers that answer, and with one that does not.
func TestGaugeModes(t *testing.T) {
	for _, c := range []struct {
		mode     Mode
		all, two string // with 3, 8 and 4; without the second
	}{
		{Sum, "15", "15"}, {LiveSum, "15", "7"}, {Min, "3", "3"}, {LiveMin, "3", "3"}, {Max, "8", "8"}, {LiveMax, "8", "4"},
		{Average, "5", "5"}, {LiveAverage, "5", "3.5"}, {First, "3", "3"},
	} {
		f := newFleet(3, Rule{"g", c.mode})
		pages := []string{gaugeType + "g 3\n", gaugeType + "g 8\n", gaugeType + "g 4\n"}
		f.want(t, `g{app="x"} `+c.all, pages...)
		pages[1] = "-"
		f.want(t, `g{app="x"} `+c.two, pages...)
		f.summer.Forget("1")
		pages = append([]string{"g 9\n"}, pages[1:]...)
		pages[0] = gaugeType + "g 3\n"
		want := map[Mode]string{Sum: "7", LiveSum: "7", Max: "4", LiveMax: "4", Average: "3.5", LiveAverage: "3.5"}[c.mode]
		if want == "" {
			want = "3"
		}
		f.want(t, `g{app="x"} `+want, pages...)
	}
	f := newFleet(2, Rule{"g", Omit})
	f.want(t, `h{app="x",worker="0"} 1`, gaugeType+"g 3\nh 1\n", gaugeType+"g 4\n")
	// Without a rule, and with a rule for Labelled, all stays as it is.
	for _, rules := range [][]Rule{nil, {{"g", Labelled}, {"*", Sum}}} {
		f = newFleet(2, rules...)
		f.want(t, "g{app=\"x\",worker=\"0\"} 3\ng{app=\"x\",worker=\"1\"} 4", gaugeType+"g 3\n", gaugeType+"g 4\n")
	}
}

// TestQuantilesStayLabelled: their sum means nothing; _sum and _count are added up.
func TestQuantilesStayLabelled(t *testing.T) {
	f := newFleet(2, Rule{"*", Sum})
	page := "# TYPE s summary\ns{quantile=\"0.5\"} 1.05\ns_sum 10\ns_count 4\n"
	report := f.want(t, strings.Join([]string{`s_count{app="x"} 8`, `s_sum{app="x"} 20`, `s{app="x",worker="0",quantile="0.5"} 1.05`, `s{app="x",worker="1",quantile="0.5"} 1.05`}, "\n"), page, page)
	if report.Unsummed[WrongMode] != 1 || report.Series != 2 {
		t.Errorf("%+v", report)
	}
}

// TestWhatCannotBeRightStaysLabelled, and is counted.
func TestWhatCannotBeRightStaysLabelled(t *testing.T) {
	labelled := func(why Unsummed, rule Rule, pages ...string) {
		t.Helper()
		f := newFleet(len(pages), rule)
		for range 2 {
			got, report := f.scrape(t, pages...)
			if strings.Count(got, "worker=") != strings.Count(got, "\n")+1 || report.Unsummed[why] == 0 || report.Series != 0 {
				t.Errorf("%q: %+v\n%s", pages, report, got)
			}
		}
	}
	labelled(WrongMode, Rule{"*", Sum}, "u 1\n", "u 2\n")
	labelled(WrongMode, Rule{"*", Max}, "# TYPE c counter\nc 1\n", "# TYPE c counter\nc 2\n")
	labelled(WrongMode, Rule{"*", LiveSum}, "# TYPE c counter\nc 1\n", "# TYPE c counter\nc 2\n")
	one := "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n"
	labelled(BucketsDiffer, Rule{"h", Sum}, one, strings.Replace(one, `"1"`, `"2"`, 1))
	labelled(BucketsDiffer, Rule{"h", Sum}, one, strings.Replace(one, "h_bucket{le=\"1\"} 1\n", "", 1))
	var many strings.Builder
	for i := range 101 {
		fmt.Fprintf(&many, "c{i=\"%d\"} 1\n", i)
	}
	labelled(TooManySums, Rule{"c", Sum}, "# TYPE c counter\n"+many.String())
	f := newFleet(1, Rule{"c", Sum})
	if got, report := f.scrape(t, "# TYPE c counter\n"+strings.Replace(many.String(), "c{i=\"5\"} 1\n", "", 1)); report.Series != 100 || strings.Contains(got, "worker") {
		t.Errorf("at the limit: %+v", report)
	}

	// Different types: the merger then leaves out that of the later worker.
	f = newFleet(2, Rule{"*", Sum})
	read(t, f.targets[0], "# TYPE c counter\nc 1\n", Text)
	read(t, f.targets[1], gaugeType+"g 1\n# TYPE c gauge\nc 2\n", Text)
	report := f.summer.Sum(f.targets)
	page, _ := f.merger.Append(nil, Text, f.targets, []*Summer{f.summer})
	if got := strings.Join(samples(string(page)), " "); got != `c{app="x",worker="0"} 1 g{app="x"} 1` || report.Unsummed[TypesDiffer] != 2 {
		t.Errorf("%+v\n%s", report, page)
	}
}

// TestEqualBucketsAreSummed, whatever the order of labels is.
func TestEqualBucketsAreSummed(t *testing.T) {
	f := newFleet(2, Rule{"h", Sum})
	f.want(t, strings.Join([]string{`h_bucket{app="x",le="+Inf",r="/"} 7`, `h_bucket{app="x",le="1",r="/"} 3`, `h_count{app="x",r="/"} 7`, `h_sum{app="x",r="/"} 12.5`}, "\n"),
		"# TYPE h histogram\nh_bucket{le=\"1\",r=\"/\"} 1\nh_bucket{le=\"+Inf\",r=\"/\"} 2\nh_sum{r=\"/\"} 3.5\nh_count{r=\"/\"} 2\n",
		"# TYPE h histogram\nh_bucket{r=\"/\",le=\"1\"} 2\nh_bucket{r=\"/\",le=\"+Inf\"} 5\nh_sum{r=\"/\"} 9\nh_count{r=\"/\"} 5\n")
}

// TestBucketsOfTheNextVersion: while workers are restarted one by one with other
// buckets, they stay labelled; then the sum begins anew, and is a histogram.
func TestBucketsOfTheNextVersion(t *testing.T) {
	old := "# TYPE h histogram\nh_bucket{le=\"1\"} 100\nh_bucket{le=\"+Inf\"} 200\nh_sum 300\nh_count 200\n"
	next := "# TYPE h histogram\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n"
	f := newFleet(2, Rule{"h", Sum})
	f.scrape(t, old, old)
	if got, report := f.scrape(t, next, old); report.Unsummed[BucketsDiffer] != 1 || report.Series != 0 {
		t.Errorf("%+v\n%s", report, got)
	}
	f.want(t, strings.Join([]string{`h_bucket{app="x",le="+Inf"} 4`, `h_bucket{app="x",le="2"} 2`, `h_count{app="x"} 4`, `h_sum{app="x"} 6`}, "\n"), next, next)
	if state := string(f.summer.AppendState(nil)); strings.Contains(state, `le="1"`) {
		t.Errorf("%s", state)
	}
}

const counterType = "# TYPE c counter\n"

// TestNativeIsNotSummed: a family that is a native histogram somewhere stays labelled as
// long as it is said to be one, and its sum goes on meanwhile.
func TestNativeIsNotSummed(t *testing.T) {
	f := newFleet(2, Rule{"h", Sum}, Rule{"secret", Omit}, Rule{"c", Sum})
	page := func(n int) string {
		return fmt.Sprintf("# TYPE h histogram\nh_bucket{le=\"+Inf\"} %d\nh_sum 1\nh_count %d\n# TYPE secret histogram\nsecret_count 1\n# TYPE c counter\nc %d\n", n, n, n)
	}
	const summed = "c{app=\"x\"} %d\nh_bucket{app=\"x\",le=\"+Inf\"} %d\nh_count{app=\"x\"} %d\nh_sum{app=\"x\"} 2"
	f.want(t, fmt.Sprintf(summed, 5, 5, 5), page(2), page(3))
	f.summer.Native([]string{"h", "secret", "unknown"})
	labelled := strings.Join([]string{`c{app="x"} 7`, `h_bucket{app="x",worker="0",le="+Inf"} 3`, `h_bucket{app="x",worker="1",le="+Inf"} 4`,
		`h_count{app="x",worker="0"} 3`, `h_count{app="x",worker="1"} 4`, `h_sum{app="x",worker="0"} 1`, `h_sum{app="x",worker="1"} 1`}, "\n")
	if report := f.want(t, labelled, page(3), page(4)); report.Unsummed[NativeHistogram] != 1 {
		t.Errorf("%v", report.Unsummed)
	}
	f.summer.Native(nil)
	if report := f.want(t, fmt.Sprintf(summed, 9, 9, 9), page(4), page(5)); report.Unsummed[NativeHistogram] != 0 {
		t.Errorf("%v", report.Unsummed)
	}
}

// TestCounterRestart: 1,000,000 in one worker and a restart do not make an increase
// of 900,000: what was counted stays.
func TestCounterRestart(t *testing.T) {
	f := newFleet(2, Rule{"c", Sum})
	f.want(t, `c{app="x"} 1000000`, counterType+"c 900000\n", counterType+"c 100000\n")
	f.want(t, `c{app="x"} 1000050`, counterType+"c 20\n", counterType+"c 100030\n")
	// A worker that does not answer keeps its part, and one that is gone too.
	f.want(t, `c{app="x"} 1000060`, "-", counterType+"c 100040\n")
	f.summer.Forget("0")
	f.want(t, `c{app="x"} 1000070`, "-", counterType+"c 100050\n")
	// Of an app that does not answer at all there is nothing: that is how Prometheus
	// sees it.
	f.want(t, "", "-", "-")
	f.want(t, `c{app="x"} 1000071`, "-", counterType+"c 100051\n")
}

// TestHistogramsRestartAsAWhole: the bucket that has passed its last value already
// belongs to the same restart.
func TestHistogramsRestartAsAWhole(t *testing.T) {
	f := newFleet(1, Rule{"h", Sum})
	page := func(small, all, sum int) string {
		return fmt.Sprintf("# TYPE h histogram\nh_bucket{le=\"1\"} %d\nh_bucket{le=\"+Inf\"} %d\nh_sum %d\nh_count %d\n", small, all, sum, all)
	}
	f.scrape(t, page(2, 10, 50))
	f.want(t, strings.Join([]string{`h_bucket{app="x",le="+Inf"} 15`, `h_bucket{app="x",le="1"} 6`, `h_count{app="x"} 15`, `h_sum{app="x"} 110`}, "\n"), page(4, 5, 60))
}

// TestNegativeObservations: a _sum may fall, which is no restart.
func TestNegativeObservations(t *testing.T) {
	f := newFleet(1, Rule{"s", Sum})
	f.want(t, "s_count{app=\"x\"} 1\ns_sum{app=\"x\"} 5", "# TYPE s summary\ns_sum 5\ns_count 1\n")
	f.want(t, "s_count{app=\"x\"} 2\ns_sum{app=\"x\"} -2", "# TYPE s summary\ns_sum -2\ns_count 2\n")
}

// TestStartTimeTellsRestarts: that of a worker whose counter has passed its last value.
func TestStartTimeTellsRestarts(t *testing.T) {
	f := newFleet(1, Rule{"c", Sum}, Rule{startTime, Omit})
	page := "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n" + counterType + "c %d\n"
	f.want(t, `c{app="x"} 5`, fmt.Sprintf(page, 100, 5))
	report := f.want(t, `c{app="x"} 12`, fmt.Sprintf(page, 200, 7))
	if report.Restarts != 1 {
		t.Errorf("%+v", report)
	}
	if report := f.want(t, `c{app="x"} 13`, fmt.Sprintf(page, 200, 8)); report.Restarts != 0 {
		t.Errorf("%+v", report)
	}
}

// TestDroppedLinesAreNoRestart: a line that is bad for once does not end its series.
func TestDroppedLinesAreNoRestart(t *testing.T) {
	f := newFleet(1, Rule{"c", Sum})
	f.targets[0] = NewTarget(Options{App: "x", Worker: "0", Values: true, Lenient: true})
	f.want(t, `c{app="x"} 5`, counterType+"c 5\n")
	f.want(t, `c{app="x"} 5`, counterType+"c 6x\n")
	f.want(t, `c{app="x"} 7`, counterType+"c 7\n")
}

// TestNaNDoesNotStay: a value that is none spoils the sum only as long as it is there.
func TestNaNDoesNotStay(t *testing.T) {
	f := newFleet(1, Rule{"c", Sum})
	f.want(t, `c{app="x"} 5`, counterType+"c 5\n")
	f.want(t, `c{app="x"} NaN`, counterType+"c NaN\n")
	f.want(t, `c{app="x"} 1`, counterType+"c 1\n")
	f.want(t, `c{app="x"} +Inf`, counterType+"c +Inf\n")
	f.want(t, `c{app="x"} 2`, counterType+"c 2\n")
}

// TestOtherFormatIsNoRestart: prom-client calls a counter hits in text and hits_total
// in OpenMetrics; that hits is not in the page in between does not end it.
func TestOtherFormatIsNoRestart(t *testing.T) {
	f := newFleet(1, Rule{"hits*", Sum})
	for i, page := range []string{"# TYPE hits counter\nhits 5\n", "# TYPE hits counter\nhits_total 6\n# EOF\n", "# TYPE hits counter\nhits 7\n"} {
		read(t, f.targets[0], page, Format(i%2))
		f.summer.Sum(f.targets)
	}
	page, _ := f.merger.Append(nil, Text, f.targets, []*Summer{f.summer})
	if !strings.Contains(string(page), "hits{app=\"x\"} 7\n") {
		t.Errorf("%s", page)
	}
}

// TestPromClientDefaults: what prom-client collects by default, by the seed rules.
func TestPromClientDefaults(t *testing.T) {
	f := newFleet(2, append(PromClientRules(), Rule{"*", Sum})...)
	got, report := f.scrape(t, string(golden(t, "worker1.txt")), string(golden(t, "worker2.txt")))
	for _, want := range []string{
		`http_requests_total{app="x",code="200",method="GET",route="/"} 5`,
		`http_request_duration_seconds_bucket{app="x",code="500",le="1",method="POST",route="/cart \"x\" \\ ü\n"} 0`,
		`response_bytes_count{app="x",route="/"} 200`,
		`queue_jobs{app="x",queue="mail"} 9`,
		`nodejs_version_info{app="x",major="20",`,
		`nodejs_eventloop_lag_max_seconds{app="x"} `,
		`response_bytes{app="x",worker="1",quantile="0.5",route="/"} 495`,
		`taken_labels{app="x",exported_app="theirs",exported_worker="99",job="mail"} 2`,
	} {
		if strings.Count("\n"+got, "\n"+want) != 1 {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, startTime) || report.Unsummed != ([UnsummedReasons]int{WrongMode: 1}) {
		t.Errorf("%+v\n%s", report, got)
	}
}

// TestSumsOfOpenMetrics: sums of pages of OpenMetrics are OpenMetrics, and go on where
// those of text have been: another scraper may ask for another format.
func TestSumsOfOpenMetrics(t *testing.T) {
	f := newFleet(2, append(PromClientRules(), Rule{"*", Sum})...)
	for i, format := range []Format{Text, OpenMetrics, Text, OpenMetrics} {
		for i, target := range f.targets {
			name := fmt.Sprintf("worker%d.%s", i+1, map[Format]string{Text: "txt", OpenMetrics: "om"}[format])
			read(t, target, string(golden(t, name)), format)
		}
		f.summer.Sum(f.targets)
		page, got := f.merger.Append(nil, format, f.targets, []*Summer{f.summer})
		want := map[Format]string{Text: "# TYPE http_requests_total counter\n", OpenMetrics: "# TYPE http_requests counter\n"}[format]
		if got != format || !strings.Contains(string(page), want) || strings.Count(string(page), `http_requests_total{app="x",code="200",method="GET",route="/"} 5`) != 1 {
			t.Errorf("page %d: %s", i, page)
		}
		page, _ = f.merger.Append(nil, Text, f.targets, []*Summer{f.summer})
		checkText(t, page)
		if c := f.merger.Conflicts(); len(c) > 0 {
			t.Errorf("%+v", c)
		}
	}
}

// TestLostState: a state that cannot be read begins a new epoch at zero, so that
// nothing is counted twice.
func TestLostState(t *testing.T) {
	f := newFleet(2, Rule{"c", Sum})
	f.scrape(t, counterType+"c 900000\n", counterType+"c 100\n")
	state := f.summer.AppendState(nil)
	for n := range state {
		s := NewSummer("x", []Rule{{"c", Sum}}, 100, 2)
		if err := s.Restore(state[:n]); !errors.Is(err, ErrCorrupt) || s.Epoch() != 2 {
			t.Fatalf("%q: %v", state[:n], err)
		}
	}
	for _, damage := range []string{
		"", "healthd-sums 2 1\nend 0\n", "healthd-sums 1 x\nend 0\n", "healthd-sums 1 1\nend 1\n", "healthd-sums 1 1\nend 0\nmore\n",
		"healthd-sums 1 1\nworker 1 \"b\"\nworker 1 \"a\"\nend 0\n", "healthd-sums 1 1\nworker 1 \"a\"\nworker 1 \"a\"\nend 0\n", "healthd-sums 1 1\nworker x \"b\"\nend 0\n", "healthd-sums 1 1\nworker 1 b\nend 0\n",
		"healthd-sums 1 1\nfamily gauge c\nend 0\n", "healthd-sums 1 1\n1 c{app=\"x\"}\nend 1\n", "healthd-sums 1 1\nfamily counter c\n1 c{app=\"x\"}\n1 c{app=\"x\"}\nend 2\n",
		"healthd-sums 1 1\nfamily counter c\nx c{app=\"x\"}\nend 1\n", "healthd-sums 1 1\nworker 0 \"a\"\nfamily counter c\n1 c{app=\"x\"}\nend 1\n", "healthd-sums 1 1\nfamily counter c\n1 c\nend 1\n",
		"healthd-sums 1 1\nfamily counter c\nworker 1 \"a\"\nend 0\n",
	} {
		if err := NewSummer("x", []Rule{{"c", Sum}}, 100, 2).Restore([]byte(damage)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v", damage, err)
		}
	}
	f.summer = NewSummer("x", []Rule{{"c", Sum}}, 100, 2)
	if err := f.summer.Restore(nil); err == nil {
		t.Error("nothing is a state")
	}
	f.want(t, `c{app="x"} 0`, "-", counterType+"c 110\n")
	f.want(t, `c{app="x"} 5`, counterType+"c 900007\n", counterType+"c 115\n")
	f.want(t, `c{app="x"} 8`, counterType+"c 1\n", counterType+"c 117\n")
}

// TestStateFollowsRules: what no rule sums any more is not taken up; the rest goes on,
// with workers that do not answer yet, and without HELP until one does.
func TestStateFollowsRules(t *testing.T) {
	f := newFleet(2, Rule{"*", Sum})
	page := "# HELP c Help.\n" + counterType + "c{l=\"\\\"\"} 0.1\n# TYPE d counter\nd 7\n"
	f.scrape(t, page, page)
	state := f.summer.AppendState(nil)
	f.summer = NewSummer("x", []Rule{{"c", Sum}}, 100, 2)
	if err := f.summer.Restore(state); err != nil || f.summer.Epoch() != 1 {
		t.Fatal(err)
	}
	f.want(t, "c{app=\"x\",l=\"\\\"\"} 0.30000000000000004\nd{app=\"x\",worker=\"0\"} 7", strings.Replace(page, "0.1", "0.2", 1), "-")
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte("healthd-sums 1 1\nworker 12.5 \"a\"\nfamily counter c\n1 2 c{app=\"x\"}\nend 1\n"))
	f.Add([]byte("healthd-sums 1 1\nworker 0 \"a\"\nworker 0 \"b\"\nfamily histogram h\n1 2 - h_bucket{app=\"x\",le=\"+Inf\"}\n0 2 - h_count{app=\"x\"}\nend 2\n"))
	f.Fuzz(func(t *testing.T, state []byte) {
		fl := newFleet(2, Rule{"*", Sum})
		if err := fl.summer.Restore(state); err != nil {
			return
		}
		again := NewSummer("x", []Rule{{"*", Sum}}, 100, 1)
		if err := again.Restore(fl.summer.AppendState(nil)); err != nil {
			t.Fatalf("%q is saved as\n%s\n%v", state, fl.summer.AppendState(nil), err)
		}
		read(t, fl.targets[0], counterType+"c 1\n", Text)
		fl.summer.Sum(fl.targets)
		fl.merger.Append(nil, Text, fl.targets, []*Summer{fl.summer})
	})
}
