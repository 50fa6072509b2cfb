package machine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a program that starts a machine, prints its
// name and its holder, and waits to be killed.
const childEnv = "MACHINE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	machine, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(machine.name, machine.holder.cmd.Process.Pid)
	select {}
}

// awaitExit returns when the process has ended, or fails after 20 s.
func awaitExit(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("process %d did not end: %d, %v", pid, n, err)
		}
		return
	}
}

func cgroupsOf(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, hierarchy := range hierarchies() {
		found, err := filepath.Glob(filepath.Join(hierarchy, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func mounts(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBootedMachine(t *testing.T) {
	m := Boot(t, Options{
		Hostname:     "web-07",
		JournaldConf: "[Journal]\nRateLimitBurst=0\nSystemMaxFileSize=16M\n",
		Env:          []string{"SHOP=books"},
		ExtraFiles:   []File{{Path: "/usr/local/bin/greet", Data: []byte("#!/bin/sh\necho hello $1\n"), Mode: 0o755}},
	})
	t.Run("is running", func(t *testing.T) {
		if err := m.WaitRunning(t.Context()); err != nil {
			t.Error(err)
		}
		if got := m.Do(t, "ps", "-o", "comm=", "-p", "1"); got != "systemd" {
			t.Errorf("process 1 is %q", got)
		}
	})
	t.Run("keeps exit codes", func(t *testing.T) {
		if _, _, err := m.Run(t.Context(), "true"); err != nil {
			t.Errorf("true: %v", err)
		}
		var exit *exec.ExitError
		if _, _, err := m.Run(t.Context(), "false"); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("false: %v", err)
		}
		stdout, stderr, err := m.Run(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 42")
		if !errors.As(err, &exit) || exit.ExitCode() != 42 || stdout != "out\n" || stderr != "err\n" {
			t.Errorf("exit 42: %q %q %v", stdout, stderr, err)
		}
	})
	t.Run("differs from the host", func(t *testing.T) {
		if got := m.Do(t, "hostname"); got != "web-07" {
			t.Errorf("hostname %q", got)
		}
		for _, name := range []string{"/etc/machine-id", "/proc/sys/kernel/random/boot_id"} {
			host, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if got := m.Do(t, "cat", name); len(got) < 32 || got == strings.TrimSpace(string(host)) {
				t.Errorf("%s is %q, the host's is %q", name, got, host)
			}
		}
		if got := m.Do(t, "sh", "-c", "echo $SHOP; greet you"); got != "books\nhello you" {
			t.Errorf("environment and extra file: %q", got)
		}
	})
	t.Run("has loopback only", func(t *testing.T) {
		got := m.Do(t, "sh", "-c", "cd /sys/class/net; ls -x; cat lo/flags")
		if got != "lo\n0x9" { // IFF_UP | IFF_LOOPBACK
			t.Errorf("interfaces and flags: %q", got)
		}
	})
	t.Run("has its own journal", func(t *testing.T) { testJournal(t, m) })
	t.Run("moves files", func(t *testing.T) { testFiles(t, m) })
	t.Run("kills a command with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cmd := m.Command(ctx, "sh", "-c", "echo $$; exec sleep 1000")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := cmd.Wait(); err == nil {
			t.Error("command ended without an error")
		}
		if _, _, err := m.Run(t.Context(), "kill", "-0", strings.TrimSpace(pid)); err == nil {
			t.Errorf("process %s is still there", pid)
		}
	})
}

func testJournal(t *testing.T, m *Machine) {
	id := m.Do(t, "cat", "/etc/machine-id")
	if entries := m.Do(t, "ls", "/var/log/journal"); entries != id {
		t.Errorf("/var/log/journal holds %q, want only %q", entries, id)
	}
	unit := "[Service]\nExecStart=/bin/sh -c 'for n in 1 2 3; do echo line $n; done'\n"
	if err := m.WriteFile(t.Context(), "/etc/systemd/system/lines.service", []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, "systemctl", "start", "lines.service")
	m.Do(t, "systemd-run", "--wait", "--unit=dynamic", "-p", "DynamicUser=yes",
		"sh", "-c", "echo I am $(id -u)")
	m.Do(t, "journalctl", "--sync")
	if got := m.Do(t, "journalctl", "-u", "lines.service", "-o", "cat", "_TRANSPORT=stdout"); got != "line 1\nline 2\nline 3" {
		t.Errorf("the unit's lines: %q", got)
	}
	// By number: the name needs the package libnss-systemd. The range is that of DynamicUser=.
	got := m.Do(t, "journalctl", "-u", "dynamic.service", "-o", "cat", "_TRANSPORT=stdout")
	if uid, err := strconv.Atoi(strings.TrimPrefix(got, "I am ")); err != nil || uid < 61184 || uid > 65519 {
		t.Errorf("the transient unit's line: %q", got)
	}
	// The host's processes can read the files themselves.
	files, err := filepath.Glob(m.Path("/var/log/journal/" + id + "/*.journal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("journal files seen from the host: %q, %v", files, err)
	}
	head, err := os.ReadFile(files[0])
	if err != nil || !bytes.HasPrefix(head, []byte("LPKSHHRH")) {
		t.Errorf("%s begins with %q, %v", files[0], head[:min(8, len(head))], err)
	}
}

func testFiles(t *testing.T, m *Machine) {
	data := bytes.Repeat([]byte("\x00\xffany bytes\n"), 100_000)
	host := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(host, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// /var/run is an absolute symbolic link on Debian.
	for name, put := range map[string]func(name string) error{
		"/opt/new/dir/copied":  func(name string) error { return m.CopyIn(t.Context(), host, name, 0o750) },
		"/var/run/new/written": func(name string) error { return m.WriteFile(t.Context(), name, data, 0o750) },
	} {
		for range 2 { // the second time it replaces
			if err := put(name); err != nil {
				t.Fatal(err)
			}
		}
		got, err := m.ReadFile(t.Context(), name)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(data))
		}
		if got := m.Do(t, "stat", "-c", "%a %U", name); got != "750 root" {
			t.Errorf("%s has mode and owner %q", name, got)
		}
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s reached the host: %v", name, err)
		}
	}
	tree := t.TempDir()
	if err := os.Mkdir(filepath.Join(tree, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "bin", "tool"), []byte("#!/bin/sh\necho worked\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("bin/tool", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	if err := m.CopyTree(t.Context(), tree, "/opt/tree"); err != nil {
		t.Fatal(err)
	}
	if got := m.Do(t, "/opt/tree/link"); got != "worked" {
		t.Errorf("a copied program, by a copied link: %q", got)
	}
	if err := m.CopyTree(t.Context(), filepath.Join(tree, "missing"), "/opt/missing"); err == nil {
		t.Error("a missing directory was copied")
	}
	if err := m.WriteFile(t.Context(), "relative", nil, 0o644); err == nil {
		t.Error("a relative path was accepted")
	}
	if _, err := m.ReadFile(t.Context(), "/no/such/file"); err == nil {
		t.Error("reading a missing file succeeded")
	}
}

func TestReboot(t *testing.T) {
	m := Boot(t, Options{})
	id := m.Do(t, "cat", "/etc/machine-id")
	m.Do(t, "logger", "-t", "shop", "last words")
	m.Do(t, "journalctl", "--sync")
	if err := m.Poweroff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.Path("/etc") != "" || m.Leader() != 0 {
		t.Error("a machine that is off has a leader")
	}
	if _, _, err := m.Run(t.Context(), "true"); err == nil {
		t.Error("a machine that is off ran a command")
	}
	if err := m.Poweroff(t.Context()); err == nil {
		t.Error("a machine that is off was powered off")
	}
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Do(t, "logger", "-t", "shop", "first words")
	m.Do(t, "journalctl", "--sync")
	if got := m.Do(t, "journalctl", "--list-boots", "--quiet", "-o", "cat"); strings.Count(got, "\n") < 1 {
		t.Errorf("boots: %q", got)
	}
	for boot, want := range map[string]string{"-1": "last words", "0": "first words"} {
		if got := m.Do(t, "journalctl", "--boot="+boot, "-t", "shop", "-o", "cat"); got != want {
			t.Errorf("boot %s: %q, want %q", boot, got, want)
		}
	}
	if got := m.Do(t, "cat", "/etc/machine-id"); got != id {
		t.Errorf("machine ID changed from %q to %q", id, got)
	}
	if err := m.Reboot(t.Context()); err != nil { // while it is on
		t.Error(err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := mounts(t)
	m := Boot(t, Options{})
	leader := m.Leader()
	if len(cgroupsOf(t, m.name)) != len(hierarchies()) {
		t.Fatalf("cgroups of a running machine: %q", cgroupsOf(t, m.name))
	}
	// Something that would not stop by itself.
	m.Do(t, "systemd-run", "--unit=stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 100; done")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(leader, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process 1 of the machine is still there: %v", err)
	}
	if left := cgroupsOf(t, m.name); len(left) > 0 {
		t.Errorf("cgroups left: %q", left)
	}
	if after := mounts(t); strings.Contains(after, rootDir) || len(after) != len(before) {
		t.Errorf("mounts before:\n%s\nafter:\n%s", before, after)
	}
	if err := m.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func TestTwoAtOnce(t *testing.T) {
	a, b := Boot(t, Options{Hostname: "a"}), Boot(t, Options{Hostname: "b"})
	if x, y := a.Do(t, "cat", "/etc/machine-id"), b.Do(t, "cat", "/etc/machine-id"); x == y {
		t.Errorf("both have machine ID %s", x)
	}
	for _, m := range []*Machine{a, b} { // units of the same name
		m.Do(t, "systemd-run", "--unit=same", "sh", "-c", "hostname; exec sleep 1000")
	}
	a.Do(t, "systemctl", "kill", "-s", "KILL", "same.service")
	if got := b.Do(t, "systemctl", "is-active", "same.service"); got != "active" {
		t.Errorf("unit in the other machine is %q", got)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.Do(t, "journalctl", "--sync")
	if got := b.Do(t, "journalctl", "-u", "same", "-o", "cat", "_TRANSPORT=stdout"); got != "b" {
		t.Errorf("journal of b has %q", got)
	}
}

func TestKilledOwnerLeavesNothing(t *testing.T) {
	if err := Available(); err != nil {
		Boot(t, Options{}) // skips or fails, by the same rule
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(exe)
	owner.Env = append(os.Environ(), childEnv+"=1")
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	name, number, ok := strings.Cut(strings.TrimSpace(line), " ")
	holder, err := strconv.Atoi(number)
	if readErr != nil || !ok || err != nil {
		t.Fatalf("the owner said %q, %v", line, readErr)
	}
	awaitExit(t, holder) // the last process of the namespace to go
	// Only the empty cgroups outlive it, until the next start.
	m := Boot(t, Options{})
	if left := cgroupsOf(t, name); len(left) > 0 {
		t.Errorf("cgroups left after the next start: %q", left)
	}
	m.Do(t, "true")
}

func TestBootFailureShowsConsole(t *testing.T) {
	if err := Available(); err != nil {
		Boot(t, Options{})
	}
	broken := "[Unit]\nDescription=The shelf that breaks\nFailureAction=exit-force\n" +
		"[Service]\nType=oneshot\nExecStart=/bin/false\n"
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := Start(ctx, Options{ExtraFiles: []File{
		{Path: "/etc/systemd/system/shelf.service", Data: []byte(broken)},
		{Path: "/etc/systemd/system/default.target", Data: []byte("[Unit]\nWants=shelf.service\nAfter=shelf.service\n")},
	}})
	if err == nil {
		_ = m.Close()
		t.Fatal("a machine that ends while it boots was started")
	}
	if !strings.Contains(err.Error(), "The shelf that breaks") {
		t.Errorf("the console is not in the error: %v", err)
	}
}

func TestFailedUnitsAreNamedAndReset(t *testing.T) {
	unit := "[Service]\nType=oneshot\nExecStart=/bin/false\n"
	m := Boot(t, Options{ExtraFiles: []File{
		{Path: "/etc/systemd/system/bad.service", Data: []byte(unit)},
		{Path: "/etc/systemd/system/multi-user.target.d/bad.conf", Data: []byte("[Unit]\nWants=bad.service\n")},
	}})
	if got := m.FailedUnits(); len(got) != 1 || got[0] != "bad.service" {
		t.Errorf("failed units %q, want bad.service", got)
	}
	if err := m.WaitRunning(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := m.Run(t.Context(), "systemctl", "start", "bad.service"); err == nil {
		t.Error("a unit that fails was started")
	}
	if err := m.WaitRunning(t.Context()); err == nil || !strings.Contains(err.Error(), "bad.service") {
		t.Errorf("wait with a failed unit: %v", err)
	}
}
