package rules

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sidecar/internal/gelf"
	"sidecar/internal/record"
)

const second = 1_000_000 // in microseconds

// at offers the limit one record of unit, with that time, level and number.
func at(r *Rules, unit string, usec int64, level uint8, n int) bool {
	e := record.Entry{Unit: []byte(unit), TimeUsec: usec}
	rec := record.Record{Level: level, ID: fmt.Appendf(nil, "e%d", n), Host: []byte("web-01"),
		Short: record.Value{Bytes: []byte("m")}}
	return r.Apply(&e, &rec)
}

func limits(t testing.TB, rate, burst int) *Rules {
	t.Helper()
	return must(t, Options{Limits: Limits{Rate: rate, Burst: burst, Summary: time.Minute}})
}

// gelfOf returns a summary as it is sent, and checks that Graylog takes it.
func gelfOf(t testing.TB, r *record.Record) string {
	t.Helper()
	frame := gelf.Append(nil, r, &gelf.Options{Host: "default"})
	if v := gelf.Judge(frame); v.Outcome != gelf.Accepted || v.Worst() != gelf.FieldKept {
		t.Errorf("%s\n%s", frame, v.Summary())
	}
	return string(frame)
}

func TestLimit(t *testing.T) {
	const start = 1_790_000_000 * second
	r := limits(t, 2, 3)
	allowed := func(unit string, usec int64, want bool) {
		t.Helper()
		if got := at(r, unit, usec, 6, 1); got != want {
			t.Errorf("%s at %d: %t", unit, usec-start, got)
		}
	}
	for range 3 {
		allowed("a", start, true)
	}
	allowed("a", start, false)
	allowed("b", start, true) // has a limit of its own
	allowed("a", start+second/2-1, false)
	allowed("a", start+second/2, true)
	allowed("a", start+second/2, false)
	allowed("a", start+second, true)
	// Long after, there is one burst and no more.
	for range 3 {
		allowed("a", start+3600*second, true)
	}
	allowed("a", start+3600*second, false)
	// A clock that is set back stops nothing for longer than a new unit waits.
	allowed("a", start, false)
	allowed("a", start+second/2, true)
	// Without a time there is no rate.
	allowed("a", 0, true)
	allowed("a", -1, true)
	allowed("a", math.MaxInt64, true)
}

func TestDefaultBurstIsTenSeconds(t *testing.T) {
	r := limits(t, 3, 0)
	kept := 0
	for i := range 100 {
		if at(r, "a", second, 6, i) {
			kept++
		}
	}
	if kept != 30 {
		t.Errorf("%d at once, want 30", kept)
	}
}

func TestWarningsAreLimitedAndErrorsNot(t *testing.T) {
	r := limits(t, 1, 1)
	for level := range uint8(8) {
		at(r, "a", second, 7, 0)
		if got := at(r, "a", second, level, 0); got != (level <= 3) {
			t.Errorf("level %d: %t", level, got)
		}
	}
}

func TestNoLimit(t *testing.T) {
	r := must(t, Options{})
	for i := range 1000 {
		if !at(r, "a", second, 7, i) {
			t.Fatal("limited")
		}
	}
	r.Restore([]UnitState{{Unit: "a", Suppressed: 1}})
	if s, d := r.State(nil), r.Due(nil, math.MaxInt64); len(s) != 0 || len(d) != 0 {
		t.Errorf("%v, %v", s, d)
	}
}

func TestSummary(t *testing.T) {
	const start = 1_790_000_000 * second
	r := limits(t, 1, 1)
	for i := range 12346 {
		at(r, "api.service", start+int64(i)*60*second/12346, 6, i)
	}
	at(r, "b.timer", start, 6, 1)
	at(r, "b.timer", start, 6, 2)
	// The first message was suppressed some milliseconds after the start.
	since := start + 60*int64(second)/12346
	if due := r.Due(nil, since+60*second-1); len(due) != 1 || string(due[0].Short.Bytes) != "1 message of b.timer suppressed in 1 s" {
		t.Fatalf("%d are due too early", len(due))
	}
	due := r.Due(nil, since+60*second)
	if len(due) != 1 {
		t.Fatalf("%d are due", len(due))
	}
	var got struct {
		Short     string  `json:"short_message"`
		Host      string  `json:"host"`
		Level     int     `json:"level"`
		Timestamp float64 `json:"timestamp"`
		Service   string  `json:"_service_name"`
		Messages  int     `json:"_suppressed_messages"`
		Seconds   int     `json:"_suppressed_seconds"`
		ID        string  `json:"_event_id"`
	}
	want := got
	if err := json.Unmarshal([]byte(gelfOf(t, &due[0])), &got); err != nil {
		t.Fatal(err)
	}
	// In 60 s, 60 messages pass: one at once, and one for each of 59 whole seconds.
	want.Short, want.Host, want.Level, want.Service = "12,286 messages of api suppressed in 60 s", "web-01", 4, "api.service"
	want.Timestamp, want.Messages, want.Seconds, want.ID = 1790000059.995, 12286, 60, "e1-suppressed"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("- want, + got:\n%s", diff)
	}
	if due := r.Due(nil, math.MaxInt64); len(due) != 0 {
		t.Errorf("%d are due again", len(due))
	}
	// What has no name has a summary, too, and a new window begins.
	at(r, "", start+second, 6, 1)
	at(r, "", start+second, 6, 2)
	at(r, "api.service", start+61*second, 6, 7)
	at(r, "api.service", start+61*second, 6, 8)
	due = r.Due(due[:0], math.MaxInt64)
	if len(due) != 2 || string(due[0].Short.Bytes) != "1 message of other services suppressed in 1 s" || string(due[1].ID) != "e8-suppressed" {
		t.Errorf("%+v", due)
	}
	gelfOf(t, &due[0])
}

// TestSummaryWaitsForItsTime: a unit that went quiet is told at its time, and not
// forgotten before.
func TestSummaryWaitsForItsTime(t *testing.T) {
	r := limits(t, 10, 1)
	at(r, "a", second, 6, 1)
	at(r, "a", second, 6, 2)
	for now := int64(second); now < 61*second; now += second {
		if due := r.Due(nil, now); len(due) != 0 {
			t.Fatalf("due after %d s", now/second)
		}
	}
	if due := r.Due(nil, 61*second); len(due) != 1 {
		t.Errorf("%d are due", len(due))
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 999999: "999,999", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// TestUnitsAreBounded: a sender that makes up names has a bounded effect.
func TestUnitsAreBounded(t *testing.T) {
	r := limits(t, 1, 1)
	kept := 0
	for i := range 5 * maxUnits {
		if at(r, fmt.Sprintf("u%d", i), second, 6, i) {
			kept++
		}
	}
	if n := len(r.limiter.units); n != maxUnits+1 || kept != maxUnits+1 {
		t.Errorf("%d units, %d kept", n, kept)
	}
	if s := r.State(nil); s[0].Unit != "" || s[0].Suppressed != 4*maxUnits-1 {
		t.Errorf("the others: %+v", s[0])
	}
	// Those that have been quiet are forgotten.
	r.Due(nil, math.MaxInt64)
	r.Due(nil, 3*second)
	if n := len(r.limiter.units); n != 0 {
		t.Errorf("%d are left", n)
	}
	r.Restore(make([]UnitState, 10))
	many := make([]UnitState, 5*maxUnits)
	for i := range many {
		many[i] = UnitState{Unit: fmt.Sprint(i), CreditNsec: math.MaxInt64, TimeUsec: math.MaxInt64, SinceUsec: math.MaxInt64, UntilUsec: -1, Suppressed: 1}
	}
	r.Restore(many)
	if n := len(r.limiter.units); n > maxUnits+1 {
		t.Errorf("%d are restored", n)
	}
	if s := r.State(nil)[0]; s.CreditNsec != r.limiter.burstNsec || s.TimeUsec != lastUsec {
		t.Errorf("impossible values are restored: %+v", s)
	}
	if due := r.Due(nil, math.MaxInt64); len(due) != len(r.limiter.units) {
		t.Errorf("%d summaries", len(due))
	}
}

// event is one message of a random stream.
type event struct {
	unit  string
	usec  int64
	level uint8
}

func drawEvents(t *rapid.T) []event {
	now := int64(1_790_000_000 * second)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		now += rapid.Int64Range(-second/10, second/2).Draw(t, "step")
		return event{rapid.SampledFrom([]string{"", "a.service", "b.service"}).Draw(t, "unit"), now, rapid.Uint8Range(0, 7).Draw(t, "level")}
	}), 1, 200).Draw(t, "events")
}

// TestSummariesAddUp: whatever comes, errors pass, and each message is shipped or
// told in one summary.
func TestSummariesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, err := New(Options{Limits: Limits{Rate: rapid.IntRange(1, 5).Draw(t, "rate"), Burst: rapid.IntRange(0, 5).Draw(t, "burst"),
			Summary: time.Duration(rapid.Int64Range(1, 1e10).Draw(t, "summary"))}})
		if err != nil {
			t.Fatal(err)
		}
		suppressed := map[string]uint64{}
		told := map[string]uint64{}
		total := uint64(0)
		ids := map[string]bool{}
		tell := func(due []record.Record) {
			for i := range due {
				unit, n := "", ""
				for _, f := range due[i].Fields {
					switch f.Name.String() {
					case "service_name":
						unit = string(f.Value.Bytes)
					case "suppressed_messages":
						n = string(f.Value.Bytes)
					}
				}
				var count uint64
				if _, err := fmt.Sscan(n, &count); err != nil || count == 0 || ids[string(due[i].ID)] {
					t.Fatalf("summary %q of %q: %v", due[i].ID, n, err)
				}
				ids[string(due[i].ID)] = true
				told[unit] += count
			}
		}
		for i, e := range drawEvents(t) {
			if !at(r, e.unit, e.usec, e.level, i) {
				if e.level <= 3 {
					t.Fatalf("event %d, level %d, is suppressed", i, e.level)
				}
				suppressed[e.unit]++
				total++
			}
			if rapid.Bool().Draw(t, "ask") {
				tell(r.Due(nil, e.usec))
			}
		}
		tell(r.Due(nil, math.MaxInt64))
		if diff := cmp.Diff(suppressed, told); diff != "" {
			t.Fatalf("- suppressed, + told:\n%s", diff)
		}
		if c := r.Counts(nil); len(c) != 1 || c[0] != (Count{"", "limit", true, total}) {
			t.Fatalf("%+v, want %d", c, total)
		}
	})
}

// TestRestoredLimitDecidesAgain: what is read again from a position gets the same
// decisions and summaries, in this process or the next.
func TestRestoredLimitDecidesAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Limits: Limits{Rate: rapid.IntRange(1, 5).Draw(t, "rate"), Burst: rapid.IntRange(0, 5).Draw(t, "burst"), Summary: 2 * time.Second}}
		events := drawEvents(t)
		cut := rapid.IntRange(0, len(events)).Draw(t, "cut")
		r, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		run := func(r *Rules, from, to int) (log []string) {
			for i, e := range events[from:to] {
				log = append(log, fmt.Sprint(at(r, e.unit, e.usec, e.level, from+i)))
				for _, s := range r.Due(nil, e.usec) {
					log = append(log, string(s.Short.Bytes)+string(s.ID))
				}
			}
			return log
		}
		run(r, 0, cut)
		saved, err := json.Marshal(r.State(nil))
		if err != nil {
			t.Fatal(err)
		}
		want := run(r, cut, len(events))
		for range 2 {
			var state []UnitState
			if err := json.Unmarshal(saved, &state); err != nil {
				t.Fatal(err)
			}
			r.Restore(state)
			if diff := cmp.Diff(want, run(r, cut, len(events))); diff != "" {
				t.Fatalf("- first, + again:\n%s", diff)
			}
			if r, err = New(o); err != nil { // as after a restart
				t.Fatal(err)
			}
		}
	})
}
