package machine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// rootDir is where the holder's mount namespace has the machine's root.
const rootDir = "/run/machine/root"

// holdScript makes the mounts of a machine and then holds its namespaces until
// standard input ends, which it does at the latest when our process ends.
//
// /run is covered by a tmpfs: the overlay's upper layer needs a place that is
// not itself an overlay, and what systemd-nspawn leaves in /run goes with it.
// Lower-layer submounts are not part of an overlay, so the host's /proc, /sys,
// /dev and /run are not in the machine.
//
// What an administrator or a package enabled lives in /etc/systemd (and, for
// generators, in the files named here): without it the machine starts only what
// systemd's own vendor directory wants.
const holdScript = `set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=0755,size="$1" machine /run
mkdir -p /run/machine/upper /run/machine/work ` + rootDir + `
mount -t overlay -o lowerdir=/,upperdir=/run/machine/upper,workdir=/run/machine/work machine ` + rootDir + `
cd ` + rootDir + `
rm -rf etc/systemd etc/rc?.d/S* etc/netplan etc/fstab etc/crypttab etc/machine-id
rm -rf var/lib/dbus/machine-id var/lib/systemd/linger var/log/journal
mkdir -p etc/systemd/system var/log/journal
cd /
echo ready
exec cat >/dev/null
`

// bootScript joins the machine's cgroups, which are the arguments up to "--",
// and becomes the rest of its arguments.
const bootScript = `set -eu
while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs"; shift; done
shift
exec "$@"
`

// masked are units that systemd's vendor directory starts by itself and that
// do nothing for a test, or cannot work in a container.
func masked() []string {
	return []string{
		"console-getty.service", "getty.target", "systemd-tmpfiles-clean.timer",
		"systemd-networkd.service", "systemd-networkd-wait-online.service", "systemd-resolved.service",
		"NetworkManager.service", "NetworkManager-wait-online.service",
		"dev-hugepages.mount", "cloud-init.target", "plymouth-start.service",
	}
}

// environ returns the environment of everything that runs in a machine.
func environ() []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0",
	}
}

// holder is the process that holds a machine's mount and PID namespaces.
type holder struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// hold makes the namespaces and the mounts of a machine.
func hold(diskBytes int64) (*holder, error) {
	cmd := exec.Command("/bin/sh", "-c", holdScript, "sh", strconv.FormatInt(diskBytes, 10))
	cmd.Env = environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		// A process group of its own: an interrupt from the terminal is for the
		// test, which then has its cleanup.
		Setpgid: true,
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces for a machine: %w", err)
	}
	h := &holder{cmd: cmd, stdin: stdin}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		h.close()
		return nil, fmt.Errorf("mount a machine's root: %s", strings.TrimSpace(stderr.String()))
	}
	return h, nil
}

// close returns when every process in the holder's namespaces is gone.
func (h *holder) close() {
	_ = h.stdin.Close()
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait() // always an error: it was killed
}

// populate writes the files that make the machine what opts asks for.
func (m *Machine) populate() error {
	dir := filepath.Join("/proc", strconv.Itoa(m.holder.cmd.Process.Pid), "root", rootDir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open a machine's root: %w", err)
	}
	defer func() { _ = root.Close() }()

	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	files := []File{
		{Path: "/etc/machine-id", Data: []byte(hex.EncodeToString(id) + "\n"), Mode: 0o444},
		{Path: "/etc/hostname", Data: []byte(m.opts.Hostname + "\n")},
		{Path: "/etc/hosts", Data: []byte("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + m.opts.Hostname + "\n")},
		{Path: "/etc/systemd/journald.conf.d/10-machine.conf", Data: []byte("[Journal]\nStorage=persistent\n")},
		// A Debian release's cloud images look for a data source otherwise.
		{Path: "/etc/cloud/cloud-init.disabled"},
	}
	if m.opts.JournaldConf != "" {
		files = append(files, File{Path: "/etc/systemd/journald.conf.d/20-test.conf", Data: []byte(m.opts.JournaldConf)})
	}
	for _, file := range append(files, m.opts.ExtraFiles...) {
		if err := putFile(root, file); err != nil {
			return fmt.Errorf("write %s of a machine: %w", file.Path, err)
		}
	}
	links := map[string]string{"default.target": "/usr/lib/systemd/system/multi-user.target"}
	for _, unit := range masked() {
		links[unit] = "/dev/null"
	}
	for name, target := range links {
		if err := root.Symlink(target, "etc/systemd/system/"+name); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link unit %s of a machine: %w", name, err)
		}
	}
	return nil
}

func putFile(root *os.Root, file File) error {
	name := strings.TrimPrefix(filepath.Clean(file.Path), "/")
	mode := file.Mode.Perm()
	if mode == 0 {
		mode = 0o644
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	// Not written through a link of the lower layer.
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.WriteFile(name, file.Data, mode); err != nil {
		return err
	}
	return root.Chmod(name, mode) // whatever the umask is
}

// system is one run of systemd in a machine, from boot to power-off.
type system struct {
	leader  int // host process ID of the machine's PID 1
	nspawn  int // host process ID of systemd-nspawn
	console *console
	done    chan struct{} // closed when systemd-nspawn has ended
}

func (s *system) kill() error { return syscall.Kill(s.nspawn, syscall.SIGKILL) }

// boot starts systemd and waits until it has booted.
//
// systemd-nspawn passes on the READY=1 of the system manager inside, sent when
// the last job of the boot is done (systemd(1), "sd_notify").
func (m *Machine) boot(ctx context.Context) error {
	ctx, cancel := withDefaultTimeout(ctx)
	defer cancel()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: "@" + m.name})
	if err != nil {
		return fmt.Errorf("listen for a machine's readiness: %w", err)
	}
	defer func() { _ = notify.Close() }()

	system := &system{console: new(console), done: make(chan struct{})}
	cmd := m.nspawnCommand(system.console)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("boot a machine: %w", err)
	}
	ready := make(chan error, 1)
	go func() { ready <- awaitReady(notify) }()
	go func() {
		_ = cmd.Wait() // how it ended is on the console
		close(system.done)
	}()

	select {
	case err = <-ready:
	case <-system.done:
		err = errors.New("systemd-nspawn ended")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		err = system.find(cmd.Process.Pid)
	}
	if err != nil {
		m.holder.close() // what did not boot is of no use any more
		<-system.done
		return fmt.Errorf("boot a machine: %w\nconsole:\n%s", err, system.console)
	}
	m.mu.Lock()
	m.system = system
	m.mu.Unlock()
	return m.forgiveFailed(ctx)
}

func (m *Machine) nspawnCommand(console io.Writer) *exec.Cmd {
	args := []string{"-t", strconv.Itoa(m.holder.cmd.Process.Pid), "-m", "-p", "--", "/bin/sh", "-c", bootScript, "sh"}
	args = append(args, m.cgroups...)
	args = append(args, "--", "systemd-nspawn", "--register=no", "--keep-unit", "--boot",
		"--private-network", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--notify-ready=yes", "--console=read-only", "--machine="+m.name, "-D", rootDir)
	cmd := exec.Command("nsenter", args...)
	cmd.Env = append(environ(), "NOTIFY_SOCKET=@"+m.name)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// awaitReady returns nil when READY=1 has come, or an error when the socket was
// closed.
func awaitReady(notify *net.UnixConn) error {
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(buf[:n])) {
			if strings.TrimSuffix(line, "\n") == "READY=1" {
				return nil
			}
		}
	}
}

// find fills in the process IDs: nsenter has one child, systemd-nspawn, and
// that has one child, the machine's PID 1.
func (s *system) find(nsenter int) error {
	for _, pid := range []*int{&s.nspawn, &s.leader} {
		pids, err := children(nsenter)
		if err != nil {
			return err
		}
		if len(pids) != 1 {
			return fmt.Errorf("find process 1: process %d has %d children, want 1", nsenter, len(pids))
		}
		*pid, nsenter = pids[0], pids[0]
	}
	return nil
}

// children returns the process IDs of a process's children (proc(5)).
func children(pid int) ([]int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// forgiveFailed notes the units that failed during boot and resets them. They
// come with the host's distribution; a test wants to see its own failures.
func (m *Machine) forgiveFailed(ctx context.Context) error {
	failed, err := m.listFailed(ctx)
	m.failed = failed
	if err != nil || len(failed) == 0 {
		return err
	}
	_, _, err = m.Run(ctx, "systemctl", "reset-failed")
	return err
}

func (m *Machine) listFailed(ctx context.Context) ([]string, error) {
	stdout, _, err := m.Run(ctx, "systemctl", "list-units", "--state=failed", "--plain", "--no-legend")
	var units []string
	for line := range strings.Lines(stdout) {
		if fields := strings.Fields(line); len(fields) > 0 {
			units = append(units, fields[0])
		}
	}
	return units, err
}

// console keeps the end of what a machine printed on its console.
type console struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

const consoleBytes = 16 << 10

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	if over := len(c.text) - consoleBytes; over > 0 {
		c.text = append(c.text[:0], c.text[over:]...)
	}
	return len(p), nil
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}
