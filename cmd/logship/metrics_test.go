package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sidecar/internal/budget"
	"sidecar/internal/gelfin"
	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
	"sidecar/internal/output"
	"sidecar/internal/ship"
	"sidecar/internal/spool"
	"sidecar/internal/syslog"
)

// TestMetricsOfTheProgramAreDocumented: docs/metrics.md has those that the program
// adds to the line's, which package ship compares itself.
func TestMetricsOfTheProgramAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	entry := journaltest.AppendExport(nil, &journal.Entry{RealtimeUsec: 1794903330_000000, Fields: []journal.Field{{Data: []byte("MESSAGE=m"), NameBytes: 7}}}, false)
	journaltest.Write(t, filepath.Join(dir, "system.journal"), journaltest.Default(), entry)
	source, err := journal.NewSource(journal.SourceOptions{Options: journal.Options{Places: []journal.Place{{Root: dir}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	stored, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	listener, err := syslog.Listen(syslog.Options{Listen: "udp://127.0.0.1:0", Sink: stored})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	gelf, err := gelfin.Listen(gelfin.Options{Listen: "udp://127.0.0.1:0", Sink: stored})
	if err != nil {
		t.Fatal(err)
	}
	defer gelf.Close()
	memory := budget.New(1)
	memory.Backlog("syslog").Put(spool.Message{}, "\xff", 6) // does not find room
	line := ship.New(ship.Options{Sources: []ship.Source{source}, Metrics: ship.NewMetrics(1)})
	all, err := registry(line, output.NewGroup(output.GroupOptions{Targets: []output.Target{{Name: "graylog:12201"}}}), &inputs{spool: stored, budget: memory, syslog: []*syslog.Listener{listener}, gelf: []*gelfin.Listener{gelf}}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, family := range all {
		name := family.GetName()
		found[name] = true
		if strings.HasPrefix(name, "logship_") && !strings.Contains(string(page), "| `"+name+"` | "+strings.ToLower(family.GetType().String())+" |") {
			t.Errorf("%s (%s) is not documented", name, family.GetType())
		}
	}
	for _, name := range []string{"logship_build_info", "logship_journal_fallback_files", "logship_output_connected", "logship_ack_mode", "logship_target_in_use", "logship_target_held", "logship_target_failures_total",
		"logship_buffer_discarded_total", "logship_gelf_discarded_total"} {
		if !found[name] {
			t.Errorf("%s is not there", name)
		}
	}
}
