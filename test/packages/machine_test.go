package packages

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidecar/test/machine"
)

const receivedPath = "/var/lib/received.jsonl"

// The receiver is another copy of logship: what is installed may come and go.
const receiverUnit = `[Service]
ExecStart=/usr/local/bin/receiver receive --tcp 127.0.0.1:12201 --quiet --file ` + receivedPath + `
Restart=always
[Install]
WantedBy=multi-user.target
`

// shopUnit logs numbered lines with Winston until it is stopped: in 30 seconds fewer than
// journald takes of a service.
const shopUnit = `[Service]
ExecStart=/usr/bin/env node /opt/winston/server.js --stream shop --rate 100 --port 3000
[Install]
WantedBy=multi-user.target
`

const diagnose = "systemctl status --no-pager logship healthd receiver shop; journalctl -n 80 --no-pager _PID=1 + _COMM=logship + _COMM=healthd + _COMM=nginx + _COMM=prometheus"

// boot returns a machine as bootReceiver does, with the release in /root/dist.
func boot(t *testing.T, r release) *machine.Machine {
	t.Helper()
	m := bootReceiver(t, r)
	must(t, m.CopyTree(t.Context(), r.dir, "/root/dist"))
	return m
}

// bootReceiver returns a machine with a receiver and a shop that can be started.
func bootReceiver(t *testing.T, r release) *machine.Machine {
	t.Helper()
	m := machine.Boot(t, machine.Options{Diagnose: diagnose, ExtraFiles: []machine.File{
		{Path: "/etc/systemd/system/receiver.service", Data: []byte(receiverUnit)},
		{Path: "/etc/systemd/system/shop.service", Data: []byte(shopUnit)},
	}})
	if _, err := os.Stat("../winston/node_modules/winston"); err != nil {
		t.Fatalf("the npm packages are not there (make setup): %v", err)
	}
	must(t, m.CopyTree(t.Context(), "../winston", "/opt/winston"))
	must(t, m.CopyIn(t.Context(), filepath.Join(r.unpack(t, "logship", "amd64"), "usr/bin/logship"), "/usr/local/bin/receiver", 0o755))
	// What the host has of it, what keeps package managers from starting units in images,
	// and what apt does at every step: read lists of packages, tell PackageKit, index
	// manual pages.
	m.Do(t, "rm", "-rf", "/usr/sbin/policy-rc.d", "/var/lib/apt/lists", "/etc/apt/apt.conf.d/20packagekit", "/var/lib/man-db/auto-update", "/etc/logship", "/etc/healthd", "/var/lib/logship", "/var/lib/healthd", receivedPath)
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, "systemctl", "enable", "--now", "receiver")
	return m
}

// section runs the examples of a section of docs/install.md in a directory, with the
// receiver of this machine.
func section(t *testing.T, m *machine.Machine, dir, heading string) string {
	t.Helper()
	script := machine.Example(t, "../../docs/install.md", heading, "sh")
	return shell(t, m, dir, strings.ReplaceAll(script, "graylog.example.com", "127.0.0.1"))
}

func shell(t *testing.T, m *machine.Machine, dir, script string) string {
	t.Helper()
	return m.Do(t, "bash", "-c", "set -eo pipefail; exec 2>&1; cd "+dir+"\nsudo() { \"$@\"; }\n"+script)
}

// state is the ActiveState and UnitFileState of a unit.
func state(t *testing.T, m *machine.Machine, unit string) string {
	t.Helper()
	return strings.ReplaceAll(m.Do(t, "systemctl", "show", "--property=ActiveState,UnitFileState", "--value", unit), "\n", " ")
}

func wantState(t *testing.T, m *machine.Machine, unit, want string) {
	t.Helper()
	if got := state(t, m, unit); got != want {
		t.Errorf("%s is %q, want %q\n%s", unit, got, want, m.Do(t, "sh", "-c", diagnose+"; true"))
	}
}

// received returns how many of the shop's lines have come, each counted once, and
// fails if one is missing before the last.
func received(t *testing.T, m *machine.Machine) int {
	t.Helper()
	b, err := os.ReadFile(m.Path(receivedPath))
	if err != nil {
		return 0
	}
	seen, last := map[int]bool{}, 0
	for line := range strings.Lines(string(b)) {
		var message struct {
			Stream string `json:"_stream"`
			N      int    `json:"_n"`
		}
		if !strings.HasSuffix(line, "\n") || json.Unmarshal([]byte(line), &message) != nil || message.Stream != "shop" {
			continue // another unit's, or not yet whole
		}
		seen[message.N] = true
		last = max(last, message.N)
	}
	if len(seen) != last {
		t.Fatalf("of lines up to %d only %d have come", last, len(seen))
	}
	return last
}

// logged returns how many lines the shop has logged.
func logged(t *testing.T, m *machine.Machine) int {
	t.Helper()
	n, err := strconv.Atoi(m.Do(t, "sh", "-c", `journalctl -u shop -o cat | grep -c '"stream":"shop"' || true`))
	must(t, err)
	return n
}

// awaitReceived returns when at least n of the shop's lines have come.
func awaitReceived(t *testing.T, m *machine.Machine, n int) {
	t.Helper()
	m.Await(t, 2*time.Minute, func() (bool, string) {
		got := received(t, m)
		return got >= n, fmt.Sprintf("%d of %d lines have come", got, n)
	})
}

// testRPMOnMachine runs the scripts of the .rpm under a real systemd: that it is Debian's
// does not matter to them.
func testRPMOnMachine(t *testing.T, r release) {
	m := boot(t, r)
	const rpm = "rpm --force-debian --nodeps "
	out := shell(t, m, "/root/dist", rpm+"--install logship-*.x86_64.rpm healthd-*.x86_64.rpm")
	if strings.Count(out, "enabled, not started") != 1 || !strings.Contains(out, "logship: enabled") {
		t.Errorf("rpm said:\n%s", out)
	}
	wantState(t, m, "logship.service", "inactive enabled")
	wantState(t, m, "healthd.service", "active enabled")
	must(t, m.WriteFile(t.Context(), "/etc/logship/logship.toml", []byte("output.url = \"gelf+tcp://127.0.0.1:12201\"\n"), 0o644))
	m.Do(t, "systemctl", "start", "logship")
	before := m.Do(t, "systemctl", "show", "--property=MainPID", "--value", "logship", "healthd")
	shell(t, m, "/root/dist", rpm+"--upgrade --replacepkgs logship-*.x86_64.rpm healthd-*.x86_64.rpm")
	wantState(t, m, "logship.service", "active enabled")
	wantState(t, m, "healthd.service", "active enabled")
	if after := m.Do(t, "systemctl", "show", "--property=MainPID", "--value", "logship", "healthd"); before == after {
		t.Errorf("the same processes run after the upgrade: %q", after)
	}
	shell(t, m, "/root", rpm+"--erase logship healthd")
	if got := m.Do(t, "sh", "-c", "pgrep -a 'logship|healthd' || true; ls /usr/bin/logship /usr/bin/healthd /etc/systemd/system/*.wants/logship* /etc/systemd/system/*.wants/healthd* 2>/dev/null || true"); got != "" {
		t.Errorf("after the removal there is %s", got)
	}
}

// testInstallScript: the way of a deploy script, what its user may do, and a release that
// does not work.
func testInstallScript(t *testing.T, r release) {
	m := boot(t, r)
	shell(t, m, "/root", "mkdir -p release /srv/in; tar -xzf dist/logship_*_amd64.tar.gz -C release --strip-components=1; cp dist/logship_*_amd64.tar.gz dist/SHA256SUMS /srv/in")
	section(t, m, "/root/release", "## A release without packages")
	must(t, m.WriteFile(t.Context(), "/etc/logship/logship.toml", []byte("output.url = \"gelf+tcp://127.0.0.1:12201\"\n"), 0o644))
	must(t, m.CopyIn(t.Context(), "../../deploy/install.sh", "/srv/in/install.sh", 0o755))

	good := fmt.Sprintf("logship_%s_linux_amd64", version)
	asDeploy := func(script string) (string, error) {
		out, _, err := m.Run(t.Context(), "runuser", "-u", "deploy", "--", "sh", "-c", "exec 2>&1; cd /srv/in; "+script)
		return out, err
	}
	if out, err := asDeploy("./install.sh deploy logship " + good + ".tar.gz"); err != nil || !strings.Contains(out, "logship runs "+good) {
		t.Fatalf("%v\n%s", err, out)
	}
	running := func() string {
		return m.Do(t, "sh", "-c", "systemctl is-active logship; readlink /proc/$(systemctl show --property=MainPID --value logship)/exe")
	}
	wantRunning := "active\n/opt/logship/releases/" + good + "/usr/bin/logship"
	if got := running(); got != wantRunning {
		t.Errorf("there runs %q, want %q", got, wantRunning)
	}

	if out, err := asDeploy("sudo -n systemctl restart logship.service"); err != nil {
		t.Errorf("the unit may not be restarted: %v\n%s", err, out)
	}
	for _, command := range []string{"systemctl restart receiver.service", "systemctl restart logship.service receiver.service", "systemctl stop logship.service",
		"systemctl --no-block restart logship.service", "systemctl edit logship.service", "id", "/opt/logship/current/usr/bin/logship version"} {
		if out, err := asDeploy("sudo -n " + command); err == nil || !strings.Contains(out, "a password is required") {
			t.Errorf("%s is not refused: %v\n%s", command, err, out)
		}
	}
	for _, command := range []string{"echo >>/etc/logship/logship.toml", "echo >>/etc/systemd/system/logship.service", "systemctl restart --no-ask-password receiver.service"} {
		if out, err := asDeploy(command); err == nil {
			t.Errorf("%s is not refused:\n%s", command, out)
		}
	}

	badReleases(t, m, asDeploy, good, func() string { return running() + m.Do(t, "ls", "/opt/logship") }, wantRunning+"current\nlock\nreleases")
	goodReleases(t, m, asDeploy, good)
}

// badReleases: after each of these there runs what ran before, and nothing is left over.
func badReleases(t *testing.T, m *machine.Machine, asDeploy func(string) (string, error), good string, state func() string, want string) {
	t.Helper()
	// Those that do not start, are for another machine, are interrupted while they are
	// looked at, are not what their sum says, have come by half, without sums, not at all.
	shell(t, m, "/srv/in", `release() {
	mkdir -p tree/usr/bin; printf "$2" >tree/usr/bin/logship; chmod 755 tree/usr/bin/logship
	tar -czf logship_$1_linux_amd64.tar.gz tree; rm -r tree; sha256sum logship_$1_linux_amd64.tar.gz >>SHA256SUMS
}
release 9 '#!/bin/sh\n[ "$1" = version ]\n'
release 8 '\177ELF'
release 7 '#!/bin/sh\nkill -INT $PPID\n'
cp logship_9_linux_amd64.tar.gz logship_6_linux_amd64.tar.gz; sha256sum SHA256SUMS | sed s/SHA256SUMS/logship_6_linux_amd64.tar.gz/ >>SHA256SUMS
mkdir half nosums; cp SHA256SUMS half; head -c 1000000 `+good+`.tar.gz >half/`+good+`.tar.gz; cp `+good+`.tar.gz nosums`)
	for _, c := range []struct{ file, want string }{
		{"logship_9_linux_amd64.tar.gz", good + " is back"},
		{"logship_8_linux_amd64.tar.gz", "does not run on this machine"},
		{"logship_7_linux_amd64.tar.gz", ""},
		{"logship_6_linux_amd64.tar.gz", "is not what SHA256SUMS"},
		{"half/" + good + ".tar.gz", "is not what SHA256SUMS"},
		{"nosums/" + good + ".tar.gz", "put SHA256SUMS"},
		{"logship_5_linux_amd64.tar.gz", "is not there"},
		{good, "is not a release of logship"},
		{strings.Replace(good, "logship", "healthd", 1) + ".tar.gz", "is not a release of logship"},
	} {
		if out, err := asDeploy("./install.sh deploy logship " + c.file); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, no %q in\n%s", c.file, err, c.want, out)
		}
		if got := state(); got != want {
			t.Errorf("after %s there is %q, want %q", c.file, got, want)
		}
	}
}

// goodReleases: three are kept; who may not deploy, or cannot, is told what to do.
func goodReleases(t *testing.T, m *machine.Machine, asDeploy func(string) (string, error), good string) {
	t.Helper()
	shell(t, m, "/srv/in", "mkdir 'with spaces'; cd 'with spaces'; for v in 1 2 3 4; do cp ../"+good+".tar.gz logship_$v.tar.gz; done; sha256sum * >SHA256SUMS")
	for v := range 4 {
		release := fmt.Sprintf("logship_%d", v+1)
		if out, err := asDeploy("./install.sh deploy logship 'with spaces/" + release + ".tar.gz'"); err != nil || !strings.Contains(out, "logship runs "+release) {
			t.Errorf("%s: %v\n%s", release, err, out)
		}
	}
	if got := m.Do(t, "ls", "/opt/logship/releases"); got != "logship_2\nlogship_3\nlogship_4" {
		t.Errorf("kept are %q", got)
	}
	deploy := "./install.sh deploy logship " + good + ".tar.gz"
	for _, c := range []struct{ script, want string }{
		{"runuser -u deploy -- flock /opt/logship/lock " + deploy, "another deploy is under way"},
		{deploy, "deploy as the user"},
		{"runuser -u nobody -- " + deploy, "nobody may not deploy logship: have root run"},
		{"systemctl stop logship; rm /etc/logship/logship.toml; runuser -u deploy -- " + deploy, "waits for /etc/logship/logship.toml"},
		{"mount -t tmpfs -o size=4M none /opt/logship; install -d -o deploy /opt/logship /opt/logship/releases; runuser -u deploy -- " + deploy, "cannot be unpacked"},
		{"ls /opt/logship/unpacking", "No such file"},
		{"umount /opt/logship; rm /etc/sudoers.d/logship-deploy; runuser -u deploy -- " + deploy, "deploy may not deploy logship: have root run"},
	} {
		if out := m.Do(t, "sh", "-c", "exec 2>&1; cd /srv/in; "+c.script+"; true"); !strings.Contains(out, c.want) {
			t.Errorf("%s: no %q in\n%s", c.script, c.want, out)
		}
	}
}
