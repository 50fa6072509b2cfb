package e2e

import (
	"strings"
	"testing"

	"sidecar/test/machine"
)

// TestTakeOverAndReplay starts logship where another shipper stopped, from a
// directory that root has made, and then has the same lines sent again beside it.
func TestTakeOverAndReplay(t *testing.T) {
	m := boot(t)
	must(t, m.CopyIn(t.Context(), machine.Build(t), "/usr/bin/logship", 0o755))
	logLines(t, m, "before", 500)
	m.Do(t, "journalctl", "--sync")
	_, cursor, _ := strings.Cut(m.Do(t, "journalctl", "--quiet", "-n", "1", "--show-cursor"), "-- cursor: ")
	must(t, m.WriteFile(t.Context(), "/var/spool/imjournal.state", []byte(strings.TrimSpace(cursor)), 0o600))
	logLines(t, m, "after", 500)
	m.Do(t, "journalctl", "--sync")

	if out := m.Do(t, "logship", "import", "rsyslog", "/var/spool/imjournal.state"); !strings.Contains(out, "\nsaved     in /var/lib/logship;") {
		t.Errorf("import prints\n%s", out)
	}
	install(t, m)
	verify(t, await(t, m, 500), map[string]int{"after": 500, "before": 0})
	awaitConfirmed(t, m)
	verify(t, await(t, m, 500), map[string]int{"after": 500, "before": 0})

	out := m.Do(t, "logship", "replay", "--since", "-1h", "--unit", "after", "--config", "/etc/logship/logship.toml")
	if !strings.HasPrefix(out, "messages sent and confirmed: 50") { // with what systemd says about the unit
		t.Errorf("replay prints\n%s", out)
	}
	if again := verify(t, await(t, m, 500), map[string]int{"after": 500, "before": 0}); again != 500 {
		t.Errorf("%d lines came again, want 500", again)
	}
	logLines(t, m, "later", 100) // the service goes on
	verify(t, await(t, m, 600), map[string]int{"after": 500, "before": 0, "later": 100})
}
