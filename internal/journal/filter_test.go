package journal_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
	"sidecar/internal/record"
)

func newFilter(t *testing.T, o journal.FilterOptions) *journal.Filter {
	t.Helper()
	f, err := journal.NewFilter(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// unitText returns n entries of and about units, with every field that journalctl
// looks at for them present, absent, or of somebody who is not trusted to say so.
// The message is the number of the entry.
func unitText(n int) []byte {
	rnd := rand.New(rand.NewPCG(7, 1))
	units := []string{"api.service", "api.socket", "apis.service", "worker@1.service", "worker@2.service", `dev-disk-by\x2dlabel-a.device`,
		"shop.slice", "system.slice", "my.app.service", "x.timer"}
	one := func(values ...string) string { return values[rnd.IntN(len(values))] }
	var b []byte
	for i := range n {
		b = appendStamp(b, baseUsec+uint64(i))
		b = fmt.Appendf(b, "MESSAGE=%d\n", i)
		for _, field := range []string{"_SYSTEMD_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT",
			"_SYSTEMD_USER_UNIT", "USER_UNIT", "OBJECT_SYSTEMD_USER_UNIT", "COREDUMP_USER_UNIT"} {
			if rnd.IntN(4) == 0 {
				b = fmt.Appendf(b, "%s=%s\n", field, one(units...))
			}
		}
		for field, values := range map[string][]string{
			"PRIORITY":            {"0", "3", "4", "6", "7", ""},
			"SYSLOG_IDENTIFIER":   {"api", "kernel", ""},
			"_UID":                {"0", strconv.Itoa(os.Getuid()), "1000", ""},
			"_PID":                {"1", "2", ""},
			"MESSAGE_ID":          {"fc2e22bc6ee647b6b90729ab34a250b1", "39f53479d3a045ac8e11786248231fbf", ""},
			"_SYSTEMD_SLICE":      {"shop.slice", "system.slice", ""},
			"_SYSTEMD_USER_SLICE": {"app.slice", "shop.slice", ""},
			"COLOUR":              {"red", "green", "re", ""},
			"_TRANSPORT":          {"kernel", "stdout", ""},
		} {
			if value := one(values...); value != "" {
				b = fmt.Appendf(b, "%s=%s\n", field, value)
			}
		}
		b = append(b, '\n')
	}
	return b
}

// TestFiltersAsJournalctl compares what is left of a journal with journalctl's
// answer to the same question.
func TestFiltersAsJournalctl(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	journaltest.Write(t, path, journaltest.Default(), unitText(4000))
	for _, c := range []struct {
		o    journal.FilterOptions
		args string
	}{
		{journal.FilterOptions{}, ""},
		{journal.FilterOptions{Units: []string{"api"}}, "-u api"},
		{journal.FilterOptions{Units: []string{"api.socket"}}, "-u api.socket"},
		{journal.FilterOptions{Units: []string{"my.app"}}, "-u my.app"},
		{journal.FilterOptions{Units: []string{"api", "x.timer", "worker@2"}}, "-u api -u x.timer -u worker@2"},
		{journal.FilterOptions{Units: []string{`dev-disk-by\x2dlabel-a.device`}}, `-u dev-disk-by\x2dlabel-a.device`},
		{journal.FilterOptions{Units: []string{`dev-disk-by\x2d*`}}, `-u dev-disk-by\x2d*`},
		{journal.FilterOptions{Units: []string{"api*"}}, "-u api*"},
		{journal.FilterOptions{Units: []string{"worker@[!1].service", "?.timer"}}, "-u worker@[!1].service -u ?.timer"},
		{journal.FilterOptions{Units: []string{"shop.slice"}}, "-u shop.slice"},
		{journal.FilterOptions{Units: []string{"sh*.slice", "api"}}, "-u sh*.slice -u api"},
		{journal.FilterOptions{Units: []string{"api", "none"}}, "-u api -u none"},
		{journal.FilterOptions{Identifiers: []string{"api", "kernel"}}, "-t api -t kernel"},
		{journal.FilterOptions{Priority: "3"}, "-p 3"},
		{journal.FilterOptions{Priority: "emerg"}, "-p emerg"},
		{journal.FilterOptions{Priority: "warning"}, "-p warning"},
		{journal.FilterOptions{Priority: "debug"}, "-p debug"},
		{journal.FilterOptions{Priority: "err..6"}, "-p err..6"},
		{journal.FilterOptions{Priority: "6..err"}, "-p 6..err"},
		{journal.FilterOptions{Matches: []string{"COLOUR=red"}}, "COLOUR=red"},
		{journal.FilterOptions{Matches: []string{"COLOUR=red", "COLOUR=green"}}, "COLOUR=red COLOUR=green"},
		{journal.FilterOptions{Matches: []string{"COLOUR=red", "_UID=0"}}, "COLOUR=red _UID=0"},
		{journal.FilterOptions{Matches: []string{"COLOUR=red", "_UID=0", "+", "COLOUR=green", "_PID=1", "+", "_TRANSPORT=kernel", "_PID=2"}},
			"COLOUR=red _UID=0 + COLOUR=green _PID=1 + _TRANSPORT=kernel _PID=2"},
		{journal.FilterOptions{Units: []string{"api", "apis"}, Identifiers: []string{"kernel"}, Priority: "err", Matches: []string{"_UID=0", "+", "_PID=1"}},
			"-u api -u apis -t kernel -p err _UID=0 + _PID=1"},
	} {
		checkFilter(t, path, c.o, strings.Fields(c.args))
	}
	// Of user units journalctl knows only those of its own user.
	own := "_UID=" + strconv.Itoa(os.Getuid())
	checkFilter(t, path, journal.FilterOptions{UserUnits: []string{"api", "worker@*"}, Matches: []string{own}},
		[]string{"--user-unit=api", "--user-unit=worker@*", own})
	checkFilter(t, path, journal.FilterOptions{UserUnits: []string{"shop.slice"}, Units: []string{"x.timer"}, Matches: []string{own}},
		[]string{"--user-unit=shop.slice", "-u", "x.timer", own})
}

func checkFilter(t *testing.T, path string, o journal.FilterOptions, args []string) {
	t.Helper()
	cmd := exec.Command("journalctl", append([]string{"--file", path, "-o", "cat", "-q"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	want := strings.Fields(string(out))
	s, err := journal.NewSource(journal.SourceOptions{
		Options: journal.Options{Places: []journal.Place{{Root: filepath.Dir(path)}}, Filter: newFilter(t, o)}, Start: journal.Start{Head: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []string
	for {
		e, ok := next(t, s)
		if !ok {
			break
		}
		got = append(got, string(e.Message))
	}
	if len(want) == 0 {
		t.Errorf("%+v: journalctl has no entry, so nothing is shown", o)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v: %d entries, journalctl %v has %d:\n got %.100s\nwant %.100s", o, len(got), args, len(want), fmt.Sprint(got), fmt.Sprint(want))
	}
}

// A wildcard that fits a slice does not stand for all that is in it, unless it
// is meant for slices.
func TestWildcardsAndSlices(t *testing.T) {
	read := func(units ...string) string {
		w := newTiny(1, true)
		w.add(1, "MESSAGE=1", "_SYSTEMD_UNIT=cron.service", "_SYSTEMD_SLICE=system.slice")
		w.add(2, "MESSAGE=2", "_SYSTEMD_UNIT=shop.service", "_SYSTEMD_SLICE=system.slice")
		s := openSource(t, journal.SourceOptions{Options: journal.Options{Filter: newFilter(t, journal.FilterOptions{Units: units})}}, w)
		return strings.Join(sourceMessages(t, s), "")
	}
	if got := read("s*"); got != "2" {
		t.Errorf("s*: %s", got)
	}
	if got := read("s*.slice"); got != "12" {
		t.Errorf("s*.slice: %s", got)
	}
}

func sourceMessages(t *testing.T, s *journal.Source) (messages []string) {
	t.Helper()
	for {
		e, ok := next(t, s)
		if !ok {
			return messages
		}
		messages = append(messages, string(e.Message))
	}
}

// An entry of which not every field can be read is shipped: what cannot be read
// may be what was asked for. Left out is only what is known to be.
func TestFiltersKeepDamagedEntries(t *testing.T) {
	for _, c := range []struct {
		o    journal.FilterOptions
		want string
	}{
		{journal.FilterOptions{Units: []string{"a"}}, "12"},
		{journal.FilterOptions{Exclude: []string{"a"}}, "23"},
		{journal.FilterOptions{Exclude: []string{"b"}}, "13"},
	} {
		w := newTiny(1, true)
		w.add(1, "MESSAGE=1", "_SYSTEMD_UNIT=a.service")
		w.add(2, "MESSAGE=2", "_SYSTEMD_UNIT=b.service", "BROKEN=x")
		w.add(3, "MESSAGE=3", "_SYSTEMD_UNIT=c.service")
		w.b[bytes.Index(w.b, []byte("BROKEN=x"))-72] = 0 // the type of its object
		s := openSource(t, journal.SourceOptions{Options: journal.Options{Filter: newFilter(t, c.o)}}, w)
		if got := strings.Join(sourceMessages(t, s), ""); got != c.want {
			t.Errorf("%+v: entries %s, want %s", c.o, got, c.want)
		}
	}
}

func TestFilterLimits(t *testing.T) {
	matches := func(n int) (m []string) {
		for i := range n {
			m = append(m, fmt.Sprintf("F%d=x", i))
		}
		return m
	}
	if _, err := journal.NewFilter(journal.FilterOptions{Matches: matches(64)}); err != nil {
		t.Errorf("64 conditions: %v", err)
	}
	if _, err := journal.NewFilter(journal.FilterOptions{Matches: matches(65)}); err == nil || err.Error() != "65 conditions, at most 64 are possible" {
		t.Errorf("65 conditions: %v", err)
	}
	// The last bit works as the first one does.
	w := newTiny(1, true)
	w.add(1, append(matches(63), "MESSAGE=short")...)
	w.add(2, append(matches(64), "MESSAGE=whole")...)
	s := openSource(t, journal.SourceOptions{Options: journal.Options{Filter: newFilter(t, journal.FilterOptions{Matches: matches(64)})}}, w)
	if got := sourceMessages(t, s); !slices.Equal(got, []string{"whole"}) {
		t.Errorf("64 matches: %q", got)
	}
	var units []string
	for i := range 1000 { // however many, they are one condition on each field
		units = append(units, fmt.Sprintf("u%d", i))
	}
	newFilter(t, journal.FilterOptions{Units: units, UserUnits: units, Exclude: units, OwnUnit: "x.service", Identifiers: units, Priority: "err"})
}

// BenchmarkFilter reads the same file through filters that let everything, a
// twelfth and nothing through, in CPU seconds per million entries.
func BenchmarkFilter(b *testing.B) {
	const n = 50_000
	dir := b.TempDir()
	journaltest.Write(b, filepath.Join(dir, "x.journal"), journaltest.Default(), machineText(n))
	var fields []string
	for i := range 60 {
		fields = append(fields, fmt.Sprintf("X%d=y", i))
	}
	for _, c := range []struct {
		name string
		o    journal.FilterOptions
	}{
		{"none", journal.FilterOptions{}},
		{"exclude", journal.FilterOptions{Exclude: []string{"logship"}}},
		{"all", journal.FilterOptions{Units: []string{"svc*"}, Priority: "info", Matches: []string{"_TRANSPORT=stdout", "+", "_UID=0"}}},
		{"unit", journal.FilterOptions{Units: []string{"svc7"}}},
		{"nothing", journal.FilterOptions{Matches: fields}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f, err := journal.NewFilter(c.o)
			if err != nil {
				b.Fatal(err)
			}
			start := cpu(b)
			for b.Loop() {
				s, err := journal.NewRange(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: dir}}, Filter: f}}, journal.Span{})
				if err != nil {
					b.Fatal(err)
				}
				var e record.Entry
				for {
					if _, err := s.Next(&e); err != nil {
						break
					}
				}
				s.Close()
			}
			b.ReportMetric((cpu(b)-start).Seconds()/float64(b.N)/n*1e6, "CPU-s/M")
		})
	}
}
