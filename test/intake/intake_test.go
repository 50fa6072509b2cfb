// Package intake has senders of all kinds, well-behaved and hostile ones, send to the
// logship that is shipped, as a unit of a real systemd, and breaks things.
package intake

import (
	"fmt"
	"testing"
	"time"
)

const (
	tcpUnit      = "tcp://127.0.0.1:514"
	udpUnit      = "udp://127.0.0.1:514"
	streamUnit   = "unix:/run/logship-syslog.stream"
	datagramUnit = "unixgram:/run/logship-syslog"
	tcpOwn       = "tcp://127.0.0.1:10514"
	udpOwn       = "udp://127.0.0.1:10515"
)

// ownSockets are sockets that logship makes, and leaves in systemd's FD store.
const ownSockets = `[[input.syslog]]
listen = "` + tcpOwn + `"
[[input.syslog]]
listen = "` + udpOwn + `"
`

// TestIntake boots one machine for all. The rows are faults; what they must not cost
// stands at each function.
func TestIntake(t *testing.T) {
	m := boot(t)
	socketUnit := example(t, "toml")
	t.Run("Row01Kill", func(t *testing.T) { row01(t, start(t, m, ownSockets+socketUnit, "")) })
	t.Run("Row02Stop", func(t *testing.T) { row02(t, start(t, m, ownSockets+socketUnit, "")) })
	t.Run("Row22Burst", func(t *testing.T) { row22(t, start(t, m, socketUnit+ownSockets, "")) })
	t.Run("Row23NoisySender", func(t *testing.T) { row23(t, start(t, m, "spool.max = \"8MiB\"\n"+socketUnit, "")) })
	t.Run("Row24MemoryLimit", func(t *testing.T) { row24(t, start(t, m, "spool.max = \"16MiB\"\n"+socketUnit, "")) })
	t.Run("Row25Descriptors", func(t *testing.T) { row25(t, start(t, m, socketUnit, "LimitNOFILE=32\n")) })
	t.Run("Row30Hostile", func(t *testing.T) { row30(t, start(t, m, socketUnit, "")) })
}

// row02 restarts logship under load, twice. No sender is refused; nothing is lost
// and nothing comes twice, but for what a sender sent again.
func row02(t *testing.T, d daemon) {
	const seconds = 3
	var flows []flow
	for i, listen := range []string{tcpUnit, streamUnit, tcpOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("stream%d", i), Count: seconds * 1000, Rate: 1000, Size: 300, Batch: 50})
	}
	for i, listen := range []string{udpUnit, datagramUnit, udpOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("datagrams%d", i), Count: seconds * 500, Rate: 500, Size: 300})
	}
	end := d.begin(t, flows...)
	for range 2 {
		pause(700 * time.Millisecond)
		d.Do(t, "systemctl", "restart", "logship.service")
	}
	accounts := end()
	d.awaitAll(t, accounts)
	for stream, a := range accounts {
		t.Logf("%s: %+v", stream, a)
	}
	if n := d.discarded(t); n > 0 {
		t.Errorf("%d datagrams were discarded", n)
	}

	// Sockets that the configuration does not name any more are not kept.
	must(t, d.WriteFile(t.Context(), "/etc/logship/logship.toml", []byte(`output.url = "gelf+tcp://127.0.0.1:12201"`), 0o644))
	d.Do(t, "systemctl", "restart", "logship.service")
	if a := d.begin(t, flow{Listen: tcpOwn, Stream: "late", Count: 1, Attack: "crowd"})()["late"]; a.Refused == 0 {
		t.Error("a socket is left with systemd that nobody reads")
	}
}
