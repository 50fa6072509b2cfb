package machine

import (
	"strings"
	"testing"
)

func TestBoot(t *testing.T) {
	m := Boot(t, Options{})
	out, _, err := m.Run(t.Context(), "systemctl", "is-system-running")
	if err != nil || strings.TrimSpace(out) != "running" {
		t.Errorf("state %q, %v", out, err)
	}
	out, _, err = m.Run(t.Context(), "systemd-analyze")
	t.Log(out, err)
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, _, err = m.Run(t.Context(), "journalctl", "--list-boots")
	t.Log(out, err)
}
