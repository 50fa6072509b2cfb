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

// TestRow02Stop restarts logship under load, twice. No sender is refused; nothing is lost
// and nothing comes twice, but for what a sender sent again.
func TestRow02Stop(t *testing.T) {
	d := start(t, ownSockets+socketUnit(t), "")
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
	d.figures(t, 2)
}
