package packages

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sidecar/test/machine"
)

// deployUser is who Ansible logs in as: it becomes root with sudo.
const deployUser = "deploy"

// fleet is two machines that Ansible reaches over ssh, and the role as the package has it.
type fleet struct {
	machines map[string]*machine.Machine
	dir      string
	env      []string
}

// newFleet boots the machines and gives Ansible a key for them.
func newFleet(t *testing.T, r release) fleet {
	t.Helper()
	// Short, for the paths of sockets.
	dir, err := os.MkdirTemp("", "fleet")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	f := fleet{machines: map[string]*machine.Machine{}, dir: dir}
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/key")
	run(t, "cp", "-r", filepath.Join(r.unpack(t, "logship", "amd64"), "usr/share/doc/logship/examples/ansible"), dir+"/ansible")
	inventory := "logship:\n  hosts:\n"
	for _, name := range []string{"web-01", "web-02"} {
		m := bootReceiver(t, r)
		f.machines[name] = m
		m.Do(t, "sh", "-ec", "useradd --create-home --shell /bin/sh "+deployUser+"; install -d -o "+deployUser+" -m 700 ~"+deployUser+"/.ssh; echo '"+deployUser+" ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy; dropbearkey -t ed25519 -f /etc/host.key")
		must(t, m.CopyIn(t.Context(), dir+"/key.pub", "/home/"+deployUser+"/.ssh/authorized_keys", 0o644))
		inventory += fmt.Sprintf("    %s:\n      ansible_host: 127.0.0.1\n      ansible_port: %d\n", name, listenSSH(t, m))
	}
	must(t, os.WriteFile(dir+"/inventory.yml", []byte(inventory), 0o644))
	f.env = append(os.Environ(), "ANSIBLE_REMOTE_USER="+deployUser, "ANSIBLE_PRIVATE_KEY_FILE="+dir+"/key", "ANSIBLE_HOST_KEY_CHECKING=False",
		"ANSIBLE_HOME="+dir, "ANSIBLE_LOCAL_TEMP="+dir+"/tmp", "ANSIBLE_SSH_CONTROL_PATH_DIR="+dir, "ANSIBLE_SSH_TRANSFER_METHOD=piped", "ANSIBLE_PIPELINING=True", "LC_ALL=C.UTF-8")
	return f
}

// listenSSH returns a port of the host's loopback whose connections a server of ssh in
// the machine answers, which has no network in common with the host.
func listenSSH(t *testing.T, m *machine.Machine) int {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		must(t, listener.Close())
		cancel()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			connection, err := listener.AcceptTCP()
			if err != nil {
				return // closed
			}
			socket, err := connection.File()
			_ = connection.Close()
			if err != nil {
				continue // the client sees the end
			}
			server := m.Command(ctx, "dropbear", "-i", "-s", "-r", "/etc/host.key")
			server.Stdin, server.Stdout = socket, socket
			serving.Go(func() {
				_ = server.Run() // the client says what went wrong
				_ = socket.Close()
			})
		}
	})
	return listener.Addr().(*net.TCPAddr).Port
}

// play runs the playbook with the package of a version, more arguments, and returns what
// it printed and how many tasks changed something, by host: -1 where one failed.
func (f fleet) play(t *testing.T, pkg string, variables string, args ...string) (string, map[string]int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ansible-playbook", append([]string{"-i", f.dir + "/inventory.yml", "-e", "logship_package=" + pkg, "-e", variables, "ansible/site.yml"}, args...)...)
	cmd.Dir, cmd.Env = f.dir, f.env
	out, err := cmd.CombinedOutput()
	changed, failed := map[string]int{}, false
	for _, m := range regexp.MustCompile(`(?m)^(web-\d+) .* changed=(\d+) +unreachable=(\d+) +failed=(\d+) `).FindAllStringSubmatch(string(out), -1) {
		changed[m[1]], _ = strconv.Atoi(m[2])
		if m[3]+m[4] != "00" {
			changed[m[1]], failed = -1, true
		}
	}
	if failed != (err != nil) {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out), changed
}

// running is what runs in each machine, and with what.
func (f fleet) running(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"web-01", "web-02"} {
		fmt.Fprintln(&all, name, f.machines[name].Do(t, "sh", "-c", "systemctl show --property=ActiveState,MainPID logship healthd; cat /etc/logship/logship.toml /etc/healthd/healthd.toml; dpkg-query -W logship"))
	}
	return all.String()
}

// testAnsible rolls out to two machines, one after the other: what is there, again,
// mistakes, and a new version under load.
func testAnsible(t *testing.T, r release) {
	f := newFleet(t, r)
	pkg, web := r.deb("logship", "amd64"), f.machines["web-01"]
	const variables = `{"logship_receivers": ["gelf+tcp://127.0.0.1:12201"], "logship_fields": {"role": "web"}, "logship_config": "limits.rate = 9000\ntypes.mode = \"learn\""}`
	want := func(what, out string, changed map[string]int, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s: %v\n%s", what, changed, out)
		}
	}

	out, changed := f.play(t, pkg, variables, "--check", "--diff", "--limit", "web-01")
	want("check mode", out, changed, changed["web-01"] == 2 && strings.Contains(out, `+fields."role" = "web"`))
	web.Do(t, "sh", "-c", "test ! -e /usr/bin/logship && test ! -e /etc/logship")

	both := []string{"-e", "healthd_package=" + r.deb("healthd", "amd64"), "-e", `{"healthd_config": "private.listen = [\"127.0.0.1:9481\"]"}`}
	out, changed = f.play(t, pkg, variables, both...)
	want("installation", out, changed, changed["web-01"] == 8 && changed["web-02"] == 8)
	if strings.LastIndex(out, "[web-01]") > strings.Index(out, "[web-02]") {
		t.Errorf("both at once:\n%s", out)
	}
	web.Do(t, "systemctl", "start", "shop")
	awaitReceived(t, web, 100)

	before := f.running(t)
	out, changed = f.play(t, pkg, variables, both...)
	want("the same again", out, changed, changed["web-01"] == 0 && changed["web-02"] == 0)
	out, changed = f.play(t, pkg, strings.Replace(variables, "rate", "rat", 1))
	want("a mistake", out, changed, changed["web-01"] == -1 && len(changed) == 1 && strings.Contains(out, "limits.rat"))
	if after := f.running(t); after != before || strings.Count(before, "ActiveState=active") != 4 {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	out, changed = f.play(t, pkg, strings.Replace(variables, "12201", "1", 1))
	want("a receiver that is not there", out, changed, changed["web-01"] == -1 && len(changed) == 1 && strings.Contains(out, "connection refused"))

	out, changed = f.play(t, r.repack(t, "logship", "1.2.4"), variables)
	want("upgrade", out, changed, changed["web-01"] == 4 && changed["web-02"] == 2)
	if after := f.running(t); strings.Count(after, "logship\t1.2.4") != 2 || strings.Count(after, "ActiveState=active") != 4 {
		t.Errorf("after the upgrade:\n%s", after)
	}
	web.Do(t, "systemctl", "stop", "shop")
	awaitReceived(t, web, logged(t, web))
}
