package sandbox

import (
	"strings"
	"testing"
)

// wrongConfiguration: a daemon that cannot run is not started again and again, not even by
// who connects, and systemctl shows why. works starts it when the mistake is gone.
func (m box) wrongConfiguration(t *testing.T) {
	fails := func(unit, status, why string) {
		t.Helper()
		if _, _, err := m.Run(t.Context(), "systemctl", "start", unit); err == nil {
			t.Errorf("%s starts", unit)
		}
		// One that waits for its next start is activating.
		const want = "ActiveState=failed\nNRestarts=0\nExecMainStatus="
		got := m.Do(t, "systemctl", "show", "--property=ActiveState", "--property=NRestarts", "--property=ExecMainStatus", unit)
		for line := range strings.Lines(want + status) {
			if !strings.Contains(got+"\n", strings.TrimSpace(line)+"\n") {
				t.Errorf("%s: got %s, want %s", unit, got, line)
			}
		}
		if shown, _, _ := m.Run(t.Context(), "systemctl", "status", "--no-pager", "--full", unit); !strings.Contains(shown, why) {
			t.Errorf("%s: no %q in\n%s", unit, why, shown)
		}
		m.Do(t, "systemctl", "reset-failed", unit)
	}
	for _, unit := range []string{"logship.service", "healthd.service"} {
		if got, want := m.Do(t, "systemctl", "show", "--property=StartLimitIntervalUSec", "--property=StartLimitBurst", unit), "StartLimitIntervalUSec=10s\nStartLimitBurst=20"; got != want {
			t.Errorf("%s: %s, want %s", unit, got, want)
		}
	}
	m.Do(t, "mv", "/etc/secrets/token", "/etc/secrets/away")
	// However slow this machine is, the limit is to be reached.
	m.write(t, units+"healthd.service.d/slow.conf", "[Unit]\nStartLimitIntervalSec=1h\n")
	m.Do(t, "systemctl", "daemon-reload")
	fails("logship.service", "243", "243/CREDENTIALS")
	fails("healthd.service", "243", "243/CREDENTIALS")
	m.Do(t, "mv", "/etc/secrets/away", "/etc/secrets/token")
	m.write(t, "/etc/logship/conf.d/wrong.toml", "colour = 1\n")
	m.write(t, "/etc/healthd/conf.d/wrong.toml", "colour = 1\n")
	fails("logship.service", "78", "logship: /etc/logship/conf.d/wrong.toml:1: set colour: unknown key")
	m.Do(t, "systemctl", "stop", "healthd.socket", "healthd-metrics.socket")
	fails("healthd.service", "78", "healthd: /etc/healthd/conf.d/wrong.toml:1: set colour: unknown key")

	m.Do(t, "systemctl", "start", "healthd.socket", "healthd-metrics.socket")
	// Of the unit's starts or, if these are quick, of the socket's triggers (systemd.socket(5),
	// TriggerLimitBurst=): whichever is reached first ends it.
	m.awaitOutput(t, "limit-hit", "curl --silent --max-time 5 http://127.0.0.1:9480/health; systemctl show --property=Result --value healthd.socket")
	m.Do(t, "rm", "/etc/logship/conf.d/wrong.toml", "/etc/healthd/conf.d/wrong.toml", units+"healthd.service.d/slow.conf")
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, "systemctl", "reset-failed", "healthd.service", "healthd.socket", "healthd-metrics.socket")
}

const (
	private = "curl --silent --show-error --fail --cacert /etc/healthd/cert.pem https://127.0.0.1:9481"
	public  = "curl --silent --show-error http://127.0.0.1:9480/health"
)

// works: both run as shipped, with keys and tokens that only root may read, and do all that
// they are for.
func (m box) works(t *testing.T) {
	m.Do(t, "rm", "-f", "/etc/nginx/sites-enabled/default")
	m.Do(t, "systemctl", "start", "receiver", "nginx")
	m.Do(t, "systemctl", "enable", "--now", "logship-syslog.socket", "logship", "healthd.socket", "healthd-metrics.socket", "healthd")
	m.intake(t)
	m.watches(t)
	m.outage(t)
	m.ends(t)
	denied := "journalctl --no-pager -o cat -u logship -u healthd | grep -iE 'not permitted|permission denied|read-only|not supported' || true"
	if out := m.sh(t, denied); out != "" {
		t.Errorf("the sandbox is in the way:\n%s", out)
	}
}

// intake: every kind of input goes over HTTPS with a client's key and a token: the journal,
// also when it is rotated and when it moves to /run, a file, syslog by the sockets of
// systemd and by one of logship's own with its key.
func (m box) intake(t *testing.T) {
	m.sh(t, `systemd-run --quiet --wait --unit=shop echo by-journal
logger --server 127.0.0.1 --port 514 --udp by-udp
logger --server 127.0.0.1 --port 514 --tcp by-tcp
logger --socket /run/logship-syslog by-datagram
logger --socket /run/logship-syslog.stream by-stream
curl --silent --insecure --max-time 1 https://127.0.0.1:6514/by-tls || true # to syslog its request is lines like others
journalctl --rotate
systemd-run --quiet --wait --unit=shop echo by-rotated-journal`)
	m.awaitReceived(t, "by-journal", "by-udp", "by-tcp", "by-datagram", "by-stream", "by-tls", "by-rotated-journal", "by-file")
	m.write(t, "/etc/systemd/journald.conf.d/volatile.conf", "[Journal]\nStorage=volatile\n")
	m.sh(t, "systemctl restart systemd-journald; systemd-run --quiet --wait --unit=shop echo by-volatile-journal; ls /run/log/journal/*/system.journal")
	m.awaitReceived(t, "by-volatile-journal")
}

// outage: a message that is not taken is a dead letter. What comes while there is no
// receiver is in the spool, and outlives logship.
func (m box) outage(t *testing.T) {
	m.sh(t, `systemd-run --quiet --wait --unit=shop sh -c 'echo by-nobody $(head -c 9000 /dev/urandom | base64 --wrap=0)'`)
	m.awaitOutput(t, "by-nobody", "grep -o by-nobody /var/lib/logship/dlq.jsonl")
	m.Do(t, "systemctl", "stop", "receiver")
	m.sh(t, "logger --server 127.0.0.1 --port 514 --tcp by-spool")
	m.awaitOutput(t, "by-spool", "grep -rao by-spool /var/lib/logship/spool")
	m.Do(t, "systemctl", "kill", "--signal=KILL", "logship")
	m.Do(t, "systemctl", "start", "receiver")
	m.awaitReceived(t, "by-spool")
}

// watches: healthd finds logship as a unit over D-Bus, asks it, shows its metrics beside its
// own on a listener with a key, uses a token and sockets, takes heartbeats, and writes the
// status page and its state.
func (m box) watches(t *testing.T) {
	m.sh(t, private+"/heartbeat/job --data ''")
	for _, node := range []string{"job", "syslog", "proxy", "logship/unit"} {
		m.awaitOutput(t, ": pass", "healthd explain "+node)
	}
	m.awaitOutput(t, `"n":"Logs","s":"up"`, public)
	for _, series := range []string{`logship_messages_confirmed_total{app="logship"`, `healthd_check_state{check="logship/unit"`, "process_start_time_seconds{app=\"logship\"", "process_start_time_seconds "} {
		m.awaitOutput(t, series, private+"/metrics | grep -F -e '"+series+"'")
	}
	m.awaitOutput(t, "Logs", "cat /srv/status/status.json")
	m.awaitOutput(t, "job", "cat /var/lib/healthd/state.json")
}

// ends: healthd hears over D-Bus that logship has ended, and knows the rest after a restart.
func (m box) ends(t *testing.T) {
	m.Do(t, "systemctl", "stop", "logship-syslog.socket", "logship")
	m.awaitOutput(t, "logship/unit: fail", "healthd explain logship/unit")
	m.awaitOutput(t, `"n":"Logs","s":"down"`, public)
	m.Do(t, "systemctl", "restart", "healthd")
	m.awaitOutput(t, "job: pass", "healthd explain job")
}
