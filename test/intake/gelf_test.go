package intake

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sidecar/test/machine"
)

// Where GELF goes: to the sockets of the socket units, here beside the receiver's port, and
// to those that logship makes.
const (
	gelfUDPUnit  = "gelf+udp://127.0.0.1:12211"
	gelfTCPUnit  = "gelf+tcp://127.0.0.1:12211"
	gelfHTTPUnit = "gelf+http://127.0.0.1:12202"
	gelfUDPOwn   = "gelf+udp://127.0.0.1:12221"
	gelfTCPOwn   = "gelf+tcp://127.0.0.1:12221"
	gelfHTTPOwn  = "gelf+http://127.0.0.1:12222"

	gelfPort = `[Socket]
ListenStream=
ListenDatagram=
ListenStream=127.0.0.1:12211
ListenDatagram=127.0.0.1:12211
`
)

// gelfSockets is the configuration for them, with the one of docs/sources.md.
func gelfSockets(t *testing.T) string {
	t.Helper()
	conf := machine.Example(t, "../../docs/sources.md", "### GELF sockets of systemd", "toml")
	for _, listen := range []string{gelfUDPOwn, gelfTCPOwn, gelfHTTPOwn} {
		conf += fmt.Sprintf("[[input.gelf]]\nlisten = %q\n", strings.TrimPrefix(listen, "gelf+"))
	}
	return conf
}

// startGELF starts logship with the socket units for GELF, installed as docs/sources.md
// says.
func startGELF(t *testing.T) daemon {
	t.Helper()
	d := start(t, socketUnit(t), "")
	for _, name := range []string{"logship-gelf.socket", "logship-gelf-http.socket"} {
		must(t, d.WriteFile(t.Context(), "/srv/repo/deploy/systemd/"+name, read(t, "../../deploy/systemd/"+name), 0o644))
	}
	must(t, d.WriteFile(t.Context(), "/etc/systemd/system/logship-gelf.socket.d/port.conf", []byte(gelfPort), 0o644))
	must(t, d.WriteFile(t.Context(), "/etc/logship/logship.toml", []byte(config+gelfSockets(t)), 0o644))
	d.Do(t, "bash", "-c", "set -e; cd /srv/repo; sudo() { \"$@\"; }\n"+machine.Example(t, "../../docs/sources.md", "### GELF sockets of systemd", "sh"))
	return d
}

// TestGELFSockets: neither a restart nor a crash refuses a sender, or loses what it could
// take for stored.
func TestGELFSockets(t *testing.T) {
	d := startGELF(t)
	t.Run("Restart", func(t *testing.T) { d.restartGELF(t) })
	d.killed = true
	t.Run("Kill", func(t *testing.T) { d.killGELF(t) })
	t.Run("Frozen", func(t *testing.T) { d.killFrozenGELF(t) })
}

// gelfFlows are flows to all GELF sockets, for some seconds.
func gelfFlows(name string, seconds int) (flows []flow) {
	for i, listen := range []string{gelfTCPUnit, gelfTCPOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("stream%d-%s", i, name), Count: seconds * 500, Rate: 500, Size: 300, Batch: 50})
	}
	for i, listen := range []string{gelfHTTPUnit, gelfHTTPOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("posts%d-%s", i, name), Count: seconds * 100, Rate: 100, Size: 300})
	}
	for i, listen := range []string{gelfUDPUnit, gelfUDPOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("datagrams%d-%s", i, name), Count: seconds * 300, Rate: 300, Size: 300})
	}
	return flows
}

// restartGELF restarts logship under load, twice. No sender is refused; nothing is lost,
// datagrams neither, and nothing comes twice but what a sender sent again.
func (d daemon) restartGELF(t *testing.T) {
	t.Helper()
	end := d.begin(t, gelfFlows("restart", 3)...)
	for range 2 {
		pause(700 * time.Millisecond)
		d.Do(t, "systemctl", "restart", "logship.service")
	}
	accounts := end()
	d.awaitAll(t, accounts)
	for stream, a := range accounts {
		t.Logf("%s: %+v", stream, a)
	}
}

// killGELF kills logship under load, twice. No sender is refused. Everything comes that a
// sender could take for stored: what was answered by 202, and what was sent on a connection
// that ended in order. Of datagrams those may be missing that a process had read.
func (d daemon) killGELF(t *testing.T) {
	t.Helper()
	const kills = 2
	end := d.begin(t, gelfFlows("kill", 3)...)
	for range kills {
		pause(700 * time.Millisecond)
		d.signal(t, "KILL", "logship.service")
	}
	accounts := end()
	proven, lost := map[string]sent{}, map[string]int{}
	for stream, a := range accounts {
		if !strings.HasPrefix(stream, "datagrams") {
			proven[stream] = a
		}
		t.Logf("%s: %+v", stream, a)
	}
	d.awaitAll(t, proven)
	d.await(t, func() (bool, string) {
		for stream, a := range accounts {
			if d.numbers[stream][a.Sent] == "" {
				return false, "the last of " + stream + " has not come"
			}
		}
		return true, ""
	})
	for stream, a := range accounts {
		if a.Refused > 0 || a.Error != "" {
			t.Errorf("%s: %+v", stream, a)
		}
		lost[stream] = d.missing(stream, a.Sent)
		if n := d.holes(stream, a.Sent); n > kills {
			t.Errorf("%s: %d are lost at %d places, with %d kills", stream, lost[stream], n, kills)
		}
	}
	t.Logf("read and not stored: %v", lost)
}

// holes returns in how many places messages of 1 to n have not come.
func (a *arrivals) holes(stream string, n int) (holes int) {
	before := true
	for i := range n {
		there := a.numbers[stream][i+1] != ""
		if before && !there {
			holes++
		}
		before = there
	}
	return holes
}

// killFrozenGELF kills a logship that reads nothing: then it is known that the kernel holds
// everything, and nothing is lost.
func (d daemon) killFrozenGELF(t *testing.T) {
	t.Helper()
	d.signal(t, "STOP", "logship.service")
	end := d.begin(t, flow{Listen: gelfUDPUnit, Stream: "held0", Count: 500, Size: 300}, flow{Listen: gelfUDPOwn, Stream: "held1", Count: 500, Size: 300})
	streams := d.begin(t, flow{Listen: gelfTCPUnit, Stream: "waiting0", Count: 500, Size: 300}, flow{Listen: gelfTCPOwn, Stream: "waiting1", Count: 500, Size: 300})
	accounts := end()
	d.signal(t, "KILL", "logship.service")
	for stream, a := range streams() {
		accounts[stream] = a
	}
	d.awaitAll(t, accounts)
}
