package statuspage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestParseIncident(t *testing.T) {
	in, err := parseIncident("2026-11-17-payments", delayed)
	if err != nil {
		t.Fatal(err)
	}
	if in.Title != "Card payments were delayed" || in.Kind != Degradation || !slices.Equal(in.Affects, []string{"Payments", "Web shop"}) ||
		!in.Started.Equal(time.Date(2026, 11, 17, 9, 12, 0, 0, time.UTC)) || in.Ended.Sub(in.Started) != 51*time.Minute ||
		!strings.Contains(string(in.Body), "<strong>two minutes</strong>") {
		t.Errorf("%+v", in)
	}
	crlf, err := parseIncident("a", strings.ReplaceAll("---\n"+delayed, "\n", "\r\n"))
	if err != nil || crlf.Body != in.Body {
		t.Errorf("with CRLF and a line before the head: %v", err)
	}
	zone, err := parseIncident("a", "title: x\nstarted: 2026-11-20T14:05+02:00\nended:\n---\n")
	if err != nil || zone.Started.Hour() != 12 || !zone.Ended.IsZero() || zone.Kind != Outage {
		t.Errorf("with a zone: %+v, %v", zone, err)
	}
}

func TestParseIncidentMistakes(t *testing.T) {
	bad := func(name, text, reason string) {
		t.Helper()
		if _, err := parseIncident(name, text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %v, want %q", text, err, reason)
		}
	}
	bad("a", "", `a line "---"`)
	bad("a", "title: x\n", `a line "---"`)
	bad("a", "---\n---\nx", "want a title")
	bad("a", "title: x\n---\n", "want the time")
	bad("a", "title: x\nstarted: yesterday\n---\n", `line 2: started: "yesterday": want a time`)
	bad("a", "title: x\nstarted: 0001-01-01 00:00\n---\n", "want a time")
	bad("a", "title: x\nstarted: 2026-11-20 14:05\nended: 2026-11-20 14:04\n---\n", "ended before")
	bad("a", "kind: bug\n---\n", "want outage, degradation")
	bad("a", "severity: 1\n---\n", `"severity": want title, started`)
	bad("a", "hello\n---\n", "want key: value")
	bad("a", "title: "+strings.Repeat("x", 201)+"\n---\n", "more than 200 bytes")
	bad("a", "title: \xff\n---\n", "not UTF-8")
	bad("../a", delayed, "want a name")
	bad("", delayed, "want a name")
	bad(strings.Repeat("a", 101), delayed, "want a name")
}

func TestReadIncidents(t *testing.T) {
	dir := fstest.MapFS{
		"a.md": {Data: []byte(delayed)}, "b.md": {Data: []byte(ongoing)}, "c.md": {Data: []byte("title: x\n")},
		"d.md": {Data: []byte(strings.Repeat("x", 64<<10+1))}, "e.txt": {Data: []byte("x")}, ".f.md": {Data: []byte("x")}, "sub/g.md": {Data: []byte("x")},
	}
	all, problems := ReadIncidents(dir)
	if len(all) != 2 || all[0].Name != "b" || all[1].Name != "a" {
		t.Errorf("%d incidents", len(all))
	}
	if len(problems) != 2 || !strings.Contains(problems[0].Error(), "read incident c.md") || !strings.Contains(problems[1].Error(), "more than 65536 bytes") {
		t.Errorf("%v", problems)
	}
	many := fstest.MapFS{}
	for i := range maxIncidents + 1 {
		many[fmt.Sprintf("%04d.md", i)] = &fstest.MapFile{Data: []byte(delayed)}
	}
	all, problems = ReadIncidents(many)
	if len(all) != maxIncidents || all[0].Name != "0500" || len(problems) != 1 {
		t.Errorf("%d incidents, first %s, %v", len(all), all[0].Name, problems)
	}
}

func FuzzParseIncident(f *testing.F) {
	f.Add(delayed)
	f.Add("title:x\nstarted:2026-11-20 14:05\n---\n<b>")
	f.Fuzz(func(t *testing.T, text string) {
		in, err := parseIncident("a", text)
		if err == nil && (in.Title == "" || in.Started.Year() < 1970 || in.Ended.Year() > 1 && in.Ended.Before(in.Started)) {
			t.Errorf("%q: %+v", text, in)
		}
		if err == nil {
			checkSafe(t, string(in.Body))
		}
	})
}
