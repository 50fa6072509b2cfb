package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/cli"
	"sidecar/internal/ship"
	"sidecar/internal/spool"
)

// writeSpool makes a spool of three messages.
func writeSpool(t *testing.T, dir string) {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	msgs := []spool.Message{
		{Text: []byte("<13>one"), TimeUsec: 1794903330123456, Priority: -1, Source: []byte("syslog"), Peer: []byte("192.0.2.1:514"), Transport: []byte("udp")},
		{Text: []byte("two \x1b[31m\u202e\xff <b>"), Priority: 3, Facility: []byte("4"), Host: []byte("web-01"), Identifier: []byte("sshd"), Unit: []byte("ssh.service"), PID: []byte("77")},
		{Text: []byte("three"), Priority: -1},
	}
	if err := errors.Join(s.Append(t.Context(), msgs), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDiscardsOfAFullSpoolOutliveTheProcess: the next one does not find them.
func TestDiscardsOfAFullSpoolOutliveTheProcess(t *testing.T) {
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{MaxBytes: 8 << 20, OnFull: spool.DiscardOldest})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state, err := ship.OpenStateDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	gaps := ship.NewGaps(ship.NewMetrics(1))
	if err := gaps.Open(state, ""); err != nil {
		t.Fatal(err)
	}
	source := &spoolSource{Source: s.NewSource("spool", nil), spool: s, gaps: gaps}
	defer source.Close()
	for range 12 {
		if err := s.Append(t.Context(), []spool.Message{{Text: make([]byte, spool.MaxMessageBytes), Priority: -1}}); err != nil {
			t.Fatal(err)
		}
	}
	source.Lag(time.Now())
	if err := gaps.Save(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(state.Path(ship.GapsName))
	if err != nil || !strings.Contains(string(kept), "spool_full") {
		t.Errorf("%s, %v; %+v", kept, err, s.Stats())
	}
}

func TestSpoolDump(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	writeSpool(t, dir)
	var out, stderr strings.Builder
	if code := run([]string{"spool", "dump", dir}, nil, &out, &stderr); code != cli.ExitOK || stderr.Len() > 0 {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var first struct {
		EventID string `json:"event_id"`
	}
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	id, _, _ := strings.Cut(first.EventID, "-")
	want := []string{
		`{"seq":1,"event_id":"ID-1","confirmed":false,"received":"2026-11-17T08:15:30.123456Z","source":"syslog","peer":"192.0.2.1:514","transport":"udp","message":"<13>one"}`,
		`{"seq":2,"event_id":"ID-2","confirmed":false,"received":"1970-01-01T00:00:00Z","severity":3,"facility":"4","host":"web-01","identifier":"sshd","unit":"ssh.service","pid":"77","message":"two \u001b[31m\u202e\ufffd <b>"}`,
		`{"seq":3,"event_id":"ID-3","confirmed":false,"received":"1970-01-01T00:00:00Z","message":"three"}`,
	}
	for i, line := range want {
		if line = strings.Replace(line, "ID", id, 1); len(id) != 16 || i >= len(lines) || lines[i] != line {
			t.Errorf("got  %s\nwant %s", out.String(), line)
		}
	}
}

func TestSpoolCheck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	writeSpool(t, dir)
	segment := filepath.Join(dir, "0000000000000001.seg")
	content, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	check := func(code int, want ...string) {
		t.Helper()
		var out, stderr strings.Builder
		if got := run([]string{"spool", "check", dir}, nil, &out, &stderr); got != code {
			t.Errorf("exit %d, want %d: %s%s", got, code, &out, &stderr)
		}
		for _, w := range want {
			if !strings.Contains(out.String()+stderr.String(), w) {
				t.Errorf("no %q in %s%s", w, &out, &stderr)
			}
		}
	}
	check(cli.ExitOK, "0000000000000001.seg", "confirmed up to 0, waiting 3, lost 0")

	i := strings.Index(string(content), "two")
	content[i]++
	if err := os.WriteFile(segment, content, 0o600); err != nil {
		t.Fatal(err)
	}
	check(cli.ExitFailed, "confirmed up to 0, waiting 2, lost 1", "is damaged, lost messages: 1")

	if err := os.Rename(segment, segment+".bad"); err != nil {
		t.Fatal(err)
	}
	check(cli.ExitFailed, "not readable as part of this spool: 0000000000000001.seg.bad")
	dir = filepath.Join(dir, "missing")
	check(cli.ExitUsage, "logship: read the spool: open "+dir+": no such file or directory")
}
