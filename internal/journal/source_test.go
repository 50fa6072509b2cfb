package journal_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/journal"
	"sidecar/internal/record"
)

func openSource(t *testing.T, o journal.SourceOptions, files ...*tiny) *journal.Source {
	t.Helper()
	dir := t.TempDir()
	for i, w := range files {
		writeFile(t, filepath.Join(dir, []string{"system.journal", "user-1000.journal"}[i]), w.b)
	}
	o.Places = []journal.Place{{Root: dir}}
	o.Start.Head = true
	s, err := journal.NewSource(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// next returns the next entry, without its ID.
func next(t *testing.T, s *journal.Source) (e record.Entry, ok bool) {
	t.Helper()
	ok, err := s.Next(&e)
	if err != nil {
		t.Fatal(err)
	}
	e.ID = nil
	return e, ok
}

func TestTranslatesEntries(t *testing.T) {
	w := newTiny(1, true)
	w.add(1, "MESSAGE=hello", "PRIORITY=3", "_HOSTNAME=web-01", "SYSLOG_IDENTIFIER=node", "_COMM=nodejs", "_SYSTEMD_UNIT=app.service",
		"_PID=12", "SYSLOG_PID=13", "SYSLOG_FACILITY=3", "_TRANSPORT=stdout", "_BOOT_ID="+boot1, "CONTAINER_NAME=c1", "X=y",
		"_STREAM_ID=s1", "_LINE_BREAK=line-max", "CONTAINER_PARTIAL_MESSAGE=true")
	w.add(2, "_COMM=nodejs", "SYSLOG_PID=13", "PRIORITY=8")
	w.add(3, "MESSAGE=", "PRIORITY=07", fmt.Sprintf("_SOURCE_REALTIME_TIMESTAMP=%d", baseUsec-59_999_996))
	w.add(4, "PRIORITY=0", fmt.Sprintf("_SOURCE_REALTIME_TIMESTAMP=%d", baseUsec-59_999_997))
	w.add(5, "PRIORITY=7", "_SOURCE_REALTIME_TIMESTAMP=99999999999999999999")
	w.add(6, "PRIORITY=", "_SOURCE_REALTIME_TIMESTAMP=17900000000000x0")
	s := openSource(t, journal.SourceOptions{}, w)
	for i, want := range []record.Entry{
		{Message: []byte("hello"), TimeUsec: baseUsec + 1, Priority: 3, Host: []byte("web-01"), Identifier: []byte("node"), Unit: []byte("app.service"),
			PID: []byte("12"), Facility: []byte("3"), Transport: []byte("stdout"), BootID: []byte(boot1), Container: []byte("c1"),
			StreamID: []byte("s1"), LineBreak: []byte("line-max"), Partial: true},
		{TimeUsec: baseUsec + 2, Priority: -1, Identifier: []byte("nodejs"), PID: []byte("13")},
		{Message: []byte{}, TimeUsec: baseUsec - 59_999_996, Priority: -1},
		{TimeUsec: baseUsec + 4, Priority: 0},
		{TimeUsec: baseUsec + 5, Priority: 7},
		{TimeUsec: baseUsec + 6, Priority: -1},
	} {
		want.Origin = record.Origin{File: 1, Before: uint64(i)} // the entries are numbered from 1
		got, ok := next(t, s)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("entry %d: %t, -want +got:\n%s", i, ok, diff)
		}
	}
	if _, ok := next(t, s); ok {
		t.Error("one more")
	}
}

func TestEventIDsAreStableAndDifferent(t *testing.T) {
	w := newTiny(1, true)
	for range 50 {
		w.add(1, "MESSAGE=the same line", "_SYSTEMD_UNIT=app.service") // and the same time
	}
	s := openSource(t, journal.SourceOptions{}, w)
	start, err := s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	ids := func() (ids []string) {
		var e record.Entry
		for {
			ok, err := s.Next(&e)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return ids
			}
			ids = append(ids, string(e.ID))
		}
	}
	first := ids()
	if err := s.Rewind(start); err != nil {
		t.Fatal(err)
	}
	equalMessages(t, ids(), first)
	seen := map[string]bool{}
	for _, id := range first {
		parts := strings.Split(id, "-")
		if len(parts) != 3 || len(parts[0]) != 12 || len(parts[2]) != 16 || seen[id] {
			t.Errorf("id %q", id)
		}
		seen[id] = true
	}
}

func TestLeavesOutItsOwnAndExcludedUnits(t *testing.T) {
	units := []string{"a.service", "logship.service", "b.timer", "worker@1.service", "worker@2.service", "workers.service", ""}
	read := func(o journal.FilterOptions) string {
		w := newTiny(1, true)
		for _, unit := range units {
			w.add(1, "MESSAGE=x", "_SYSTEMD_UNIT="+unit)
		}
		w.add(2, "MESSAGE=x", "_SYSTEMD_UNIT=user@1000.service", "_SYSTEMD_USER_UNIT=logship.service")
		s := openSource(t, journal.SourceOptions{Options: journal.Options{Filter: newFilter(t, o)}}, w)
		var got []string
		for {
			e, ok := next(t, s)
			if !ok {
				return strings.Join(got, " ")
			}
			got = append(got, string(e.Unit))
		}
	}
	for _, c := range []struct {
		o    journal.FilterOptions
		want string
	}{
		{journal.FilterOptions{}, "a.service logship.service b.timer worker@1.service worker@2.service workers.service  user@1000.service"},
		{journal.FilterOptions{OwnUnit: "logship.service"}, "a.service b.timer worker@1.service worker@2.service workers.service "},
		{journal.FilterOptions{Exclude: []string{"a", "b.timer", "worker@*"}}, "logship.service workers.service  user@1000.service"},
	} {
		if got := read(c.o); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.o, got, c.want)
		}
	}
}

// A long run of entries that are left out is taken in parts, with no wait in
// between.
func TestALongRunOfExcludedEntriesIsTakenInParts(t *testing.T) {
	w := newTiny(1, true)
	for range 25_000 {
		w.add(1, "MESSAGE=x", "_SYSTEMD_UNIT=noisy.service")
	}
	w.add(2, "MESSAGE=last", "_SYSTEMD_UNIT=a.service")
	s := openSource(t, journal.SourceOptions{Options: journal.Options{Filter: newFilter(t, journal.FilterOptions{Exclude: []string{"noisy"}})}}, w)
	for part := range 3 {
		e, ok := next(t, s)
		if ok != (part == 2) {
			t.Fatalf("part %d: an entry: %v", part, ok)
		}
		if !ok && s.Idle(time.Now()) != 0 {
			t.Fatalf("part %d: waits", part)
		}
		if ok && string(e.Message) != "last" {
			t.Fatalf("part %d: %q", part, e.Message)
		}
	}
}

func TestRewindRefusesGarbage(t *testing.T) {
	s := openSource(t, journal.SourceOptions{}, newTiny(1, true).fill("a", 2))
	for _, bad := range []string{"", "[]", `{"cursor":"x"}`, `{"files":{"x":-1}}`} {
		if err := s.Rewind(json.RawMessage(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if err := s.Rewind(json.RawMessage("{}")); err != nil {
		t.Error(err)
	}
	if e, ok := next(t, s); !ok || string(e.Message) != "a-0" {
		t.Errorf("after {}: %q", e.Message)
	}
}

func TestIdlePollsOnlyWhileEntriesCome(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	if d := openSource(t, journal.SourceOptions{}, newTiny(1, true)).Idle(now); d < time.Second {
		t.Errorf("without any entry: %v", d)
	}
	s := openSource(t, journal.SourceOptions{}, newTiny(1, true).fill("a", 1))
	next(t, s)
	next(t, s)
	if d := s.Idle(now); d > 20*time.Millisecond {
		t.Errorf("after an entry: %v", d)
	}
	if d := s.Idle(now.Add(2 * time.Second)); d > 20*time.Millisecond {
		t.Errorf("2 s later: %v", d)
	}
	if d := s.Idle(now.Add(4 * time.Second)); d < time.Second {
		t.Errorf("4 s later: %v", d)
	}
}

func TestLag(t *testing.T) {
	s := openSource(t, journal.SourceOptions{}, newTiny(1, true).fill("a", 10))
	for range 4 {
		next(t, s)
	}
	if n, age := s.Lag(time.UnixMicro(baseUsec + 60_000_003)); n != 6 || age != time.Minute {
		t.Errorf("%d entries, %v", n, age)
	}
	for range 6 {
		next(t, s)
	}
	if n, age := s.Lag(time.UnixMicro(baseUsec + 60_000_003)); n != 0 || age != 0 {
		t.Errorf("at the end: %d entries, %v", n, age)
	}
	if err := s.SeekLast(3); err != nil {
		t.Fatal(err)
	}
	if e, ok := next(t, s); !ok || string(e.Message) != "a-7" {
		t.Errorf("third but last: %q", e.Message)
	}
}

// A position that holds entries back is before them, in their files only.
func TestPositionBeforeHeldEntries(t *testing.T) {
	s := openSource(t, journal.SourceOptions{}, newTiny(1, true).fill("a", 5), newTiny(2, true).fill("b", 5))
	var origins []record.Origin
	var messages []string
	for {
		e, ok := next(t, s)
		if !ok {
			break
		}
		origins = append(origins, e.Origin)
		messages = append(messages, string(e.Message))
	}
	if len(messages) != 10 {
		t.Fatalf("%d entries", len(messages))
	}
	for i, origin := range origins {
		p, err := s.Position([]record.Origin{origins[len(origins)-1], origin})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Rewind(p); err != nil {
			t.Fatal(err)
		}
		again := map[string]bool{}
		for {
			e, ok := next(t, s)
			if !ok {
				break
			}
			again[string(e.Message)] = true
		}
		if !again[messages[i]] || !again[messages[len(messages)-1]] {
			t.Errorf("held %s: only %v come again", messages[i], again)
		}
		for _, m := range messages[:i] {
			if again[m] && m[0] == messages[i][0] {
				t.Errorf("held %s: %s comes again", messages[i], m)
			}
		}
	}
}
