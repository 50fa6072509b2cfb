// Package machine boots a real systemd, with its own journald, as PID 1 of a
// container on top of the host's own root file system, for end-to-end tests.
//
// A machine is systemd-nspawn (systemd-nspawn(1)) on an overlay whose lower
// layer is / and whose upper layer is a tmpfs. So it has every program that the
// host has on its root file system (not what is mounted below it: a /home of its
// own, say, or /tmp), and what it writes never reaches the host. It starts with nothing
// enabled but what systemd itself needs, an empty journal, a new machine ID, and
// no network but loopback. All its mounts and processes live in one mount and
// one PID namespace that end with the process that called Start, however that
// process ends. The package does not build images and is not for production.
package machine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// File is a file to be put into a machine.
type File struct {
	// Path is absolute, as seen in the machine.
	Path string
	// Data is the whole content.
	Data []byte
	// Mode holds the permission bits; 0 means 0644. The owner is root.
	Mode fs.FileMode
}

// Options says how a machine differs from the default. The zero value is valid.
type Options struct {
	// Hostname is the machine's name, "machine" if empty.
	Hostname string
	// JournaldConf is the text of a journald.conf drop-in, section headers
	// included. Without it journald has its defaults (rate limit of 10,000
	// messages in 30 s per service among them) and Storage=persistent.
	JournaldConf string
	// Env is added to the environment of Run and Command, as "NAME=value".
	Env []string
	// ExtraFiles are written before the first boot. Parents are made. Their
	// paths must not lead through absolute symbolic links.
	ExtraFiles []File
	// DiskBytes bounds what the machine can write to its root file system,
	// 2 GiB if 0. It is memory, taken as it is used.
	DiskBytes int64
	// Diagnose is a shell command that shows why a test fails: see Do and Await.
	Diagnose string
}

// Machine is a container that runs, or can run, its own systemd.
//
// Run, Command and the file methods may be called concurrently, but not
// together with Poweroff, Reboot or Close.
type Machine struct {
	opts    Options
	name    string
	cgroups []string // immutable after Start
	holder  *holder  // owns the namespaces and mounts
	failed  []string // owned by boot

	mu     sync.Mutex
	system *system // guarded by mu; nil while powered off
	closed bool    // guarded by mu
}

// Boot returns a running machine that ends with the test.
//
// If there can be no machine here (see Available), the test is skipped, or
// fails if the environment has CI=true.
func Boot(tb testing.TB, opts Options) *Machine {
	tb.Helper()
	if err := Available(); err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	m, err := Start(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Error(err)
		}
	})
	if failed := m.FailedUnits(); len(failed) > 0 {
		tb.Logf("units of this host that fail in a machine: %s", strings.Join(failed, " "))
	}
	return m
}

// Available returns nil if machines can be had here, else one line that says
// why not.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("no test machine: needs root")
	}
	for _, tool := range []string{"systemd-nspawn", "nsenter", "mount", "install", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("no test machine: %s is not installed (Debian package systemd-container has systemd-nspawn)", tool)
		}
	}
	if _, err := os.Stat("/usr/lib/systemd/systemd"); err != nil {
		return errors.New("no test machine: no /usr/lib/systemd/systemd to boot")
	}
	if len(hierarchies()) == 0 {
		return errors.New("no test machine: no cgroup hierarchy of systemd is mounted on /sys/fs/cgroup")
	}
	return nil
}

// Start makes a machine and boots it. It returns when the machine has finished
// booting, about 1 s, or with the console's last lines in the error.
//
// ctx bounds the start only; without a deadline it gets 60 s. The caller must
// Close the machine.
func Start(ctx context.Context, opts Options) (*Machine, error) {
	if opts.Hostname == "" {
		opts.Hostname = "machine"
	}
	if opts.DiskBytes == 0 {
		opts.DiskBytes = 2 << 30
	}
	sweep()
	name, cgroups, err := makeCgroups()
	if err != nil {
		return nil, err
	}
	m := &Machine{opts: opts, name: name, cgroups: cgroups}
	if m.holder, err = hold(opts.DiskBytes); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := m.populate(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := m.boot(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close ends the machine at once, like pulling the plug, and removes everything
// it had. Closing twice is allowed; the second call returns nil.
func (m *Machine) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	system := m.system
	m.system = nil
	m.mu.Unlock()

	if m.holder != nil {
		// The holder is PID 1 of the namespace: the kernel kills everything in
		// it and lets the holder go only when all of that is gone.
		m.holder.close()
	}
	if system != nil {
		<-system.done
	}
	return removeCgroups(m.cgroups)
}

// FailedUnits returns the units that failed during the last boot. Their state
// was reset, so that the machine counts as running.
func (m *Machine) FailedUnits() []string { return m.failed }

// Command returns a command to be run as root in the machine, not started, with
// a small environment of its own and no standard input. The caller may set
// Stdin, Stdout and Stderr. name is looked up in the machine.
//
// The exit code is the command's. When ctx ends the command is killed, but not
// what it left in the background. Signals sent to the returned command's
// Process do not reach the command; use systemctl kill. On a machine that is
// powered off, starting the command fails.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	leader := "0" // no such process: nsenter fails with a message
	m.mu.Lock()
	if m.system != nil {
		leader = strconv.Itoa(m.system.leader)
	}
	m.mu.Unlock()
	enter := []string{"-t", leader, "-m", "-u", "-i", "-p", "-n", "-C", "-r", "-w", "--", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = append(environ(), m.opts.Env...)
	cmd.Cancel = func() error {
		// nsenter forks to enter the PID namespace and waits for the child;
		// killing nsenter would leave the child running.
		pids, err := children(cmd.Process.Pid)
		if err != nil || len(pids) == 0 {
			return cmd.Process.Kill()
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return err
			}
		}
		return nil
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs a command in the machine to its end and returns what it printed.
//
// An error of the command wraps *exec.ExitError with the command's own exit
// code, and quotes the end of its standard error.
func (m *Machine) Run(ctx context.Context, name string, args ...string) (stdout, stderr string, err error) {
	return m.run(ctx, nil, name, args...)
}

func (m *Machine) run(ctx context.Context, stdin io.Reader, name string, args ...string) (string, string, error) {
	cmd := m.Command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("run %s in the machine: %w: %s", name, err, tail(strings.TrimSpace(stderr.String()), 512))
	}
	return stdout.String(), stderr.String(), err
}

// WriteFile writes a file of the machine, replacing an old one, and makes its
// parents. mode holds the permission bits; the owner is root.
func (m *Machine) WriteFile(ctx context.Context, name string, data []byte, mode fs.FileMode) error {
	return m.install(ctx, bytes.NewReader(data), name, mode)
}

// CopyIn copies a file of the host into the machine, as WriteFile does.
func (m *Machine) CopyIn(ctx context.Context, hostPath, name string, mode fs.FileMode) error {
	f, err := os.Open(hostPath)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	return m.install(ctx, f, name, mode)
}

// CopyTree copies what is in a directory of the host into a directory of the
// machine, which is made. Modes and symbolic links are kept; the owner is root.
func (m *Machine) CopyTree(ctx context.Context, hostDir, dir string) error {
	if _, _, err := m.run(ctx, nil, "mkdir", "-p", "--", dir); err != nil {
		return err
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		tw := tar.NewWriter(w)
		err := tw.AddFS(os.DirFS(hostDir))
		if err == nil {
			err = tw.Close()
		}
		packed <- err
		_ = w.CloseWithError(err) // returns nil always
	}()
	_, _, err := m.run(ctx, r, "tar", "-x", "-p", "--no-same-owner", "-C", dir, "-f", "-")
	_ = r.Close() // lets the packing end, if tar did before it
	return errors.Join(err, <-packed)
}

func (m *Machine) install(ctx context.Context, r io.Reader, name string, mode fs.FileMode) error {
	if !path.IsAbs(name) {
		return fmt.Errorf("write %s in the machine: path is not absolute", name)
	}
	// Through a process inside, not through /proc/PID/root: only there do
	// absolute symbolic links (/var/run) lead where they should.
	_, _, err := m.run(ctx, r, "install", "-D", "-m", strconv.FormatUint(uint64(mode.Perm()), 8), "/dev/stdin", name)
	return err
}

// ReadFile returns the content of a file of the machine.
func (m *Machine) ReadFile(ctx context.Context, name string) ([]byte, error) {
	stdout, _, err := m.run(ctx, nil, "cat", "--", name)
	return []byte(stdout), err
}

// Path returns where the host's processes see a file of the running machine.
//
// It is valid until the machine is powered off. An absolute symbolic link on
// the way leads into the host, so use it for plain directories such as
// /var/log/journal. On a machine that is powered off it returns "".
func (m *Machine) Path(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.system == nil {
		return ""
	}
	return path.Join("/proc", strconv.Itoa(m.system.leader), "root", name)
}

// Leader returns the process ID, on the host, of the machine's PID 1; 0 while
// it is powered off.
func (m *Machine) Leader() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.system == nil {
		return 0
	}
	return m.system.leader
}

// WaitRunning waits until no start job is queued and returns nil if the system
// state is then "running". Otherwise the error names the failed units.
func (m *Machine) WaitRunning(ctx context.Context) error {
	stdout, _, err := m.Run(ctx, "systemctl", "is-system-running", "--wait")
	if err == nil {
		return nil
	}
	state := strings.TrimSpace(stdout)
	if state == "" {
		return err
	}
	failed, listErr := m.listFailed(ctx)
	return errors.Join(fmt.Errorf("wait for the machine: system state is %q, failed units: %q", state, failed), listErr)
}

// Poweroff shuts the machine down in order and returns when it is off. If it is
// still on when ctx ends, it is killed and the error says so. What it wrote
// stays, except in /run and /tmp.
func (m *Machine) Poweroff(ctx context.Context) error {
	m.mu.Lock()
	system := m.system
	m.mu.Unlock()
	if system == nil {
		return errors.New("power off the machine: it is off")
	}
	ctx, cancel := withDefaultTimeout(ctx)
	defer cancel()
	// The command is often killed by the very shutdown it asked for, so only
	// the machine's end counts.
	_, _, runErr := m.Run(ctx, "systemctl", "poweroff")
	var err error
	select {
	case <-system.done:
	case <-ctx.Done():
		err = errors.Join(fmt.Errorf("power off the machine: %w: killed", ctx.Err()), runErr, system.kill())
		<-system.done
	}
	m.mu.Lock()
	m.system = nil
	m.mu.Unlock()
	return err
}

// Reboot powers the machine off, if it is on, and boots it again: same files,
// same machine ID, new boot ID. It returns as Start does.
func (m *Machine) Reboot(ctx context.Context) error {
	if m.Leader() != 0 {
		if err := m.Poweroff(ctx); err != nil {
			return err
		}
	}
	return m.boot(ctx)
}

func withDefaultTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, 60*time.Second)
}

// tail returns the last n bytes of s.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}
