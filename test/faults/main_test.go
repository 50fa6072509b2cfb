// Package faults breaks things around the logship that is built: the fault matrix of
// docs/reliability.md, a test for each row.
//
// A row is a short function on an engine: processes (process_test.go), a generator that
// knows what was accepted from it (load_test.go), an oracle that reads what a receiver
// wrote (arrivals_test.go), and a setup of these with the verdict that all rows share
// (setup_test.go).
package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	insideEnv = "FAULTS_TEST_INSIDE" // set in the namespaces
	soakEnv   = "SOAK"               // set by "make soak": the rows take longer
)

// logship is the program under test, built once for all; immutable after TestMain.
var logship string

// TestMain runs the tests as root of mount, network and process namespaces of their
// own: what they mount and block is theirs, and ends with them.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(insideEnv) == "" {
		os.Exit(isolate())
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// isolate runs this program once more, in namespaces, and returns its exit code.
func isolate() int {
	runtime.LockOSThread() // the child is killed with the thread that started it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "make namespaces:", err)
	}
	return cmd.ProcessState.ExitCode()
}

func run(m *testing.M) (int, error) {
	if os.Getenv(insideEnv) != "" {
		if err := furnish(); err != nil {
			return 0, err
		}
	}
	dir, err := os.MkdirTemp("", "faults-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	logship = filepath.Join(dir, "logship")
	build := exec.Command("go", "build", "-trimpath", "-pgo=off", "-o", logship, "sidecar/cmd/logship")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build logship: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// furnish gives new namespaces what every process expects: /proc, and a loopback that
// is up.
func furnish() error {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}

// needNamespaces skips a test that would change this machine without them; in CI it
// fails. tools are the programs that the test runs.
func needNamespaces(t *testing.T, tools ...string) {
	t.Helper()
	var missing error
	if os.Getenv(insideEnv) == "" {
		missing = errors.New("no namespaces to break things in: needs root")
	}
	for _, tool := range tools {
		_, err := exec.LookPath(tool)
		missing = errors.Join(missing, err)
	}
	switch {
	case missing == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}

// soaks reports whether the rows may take their time.
func soaks() bool { return os.Getenv(soakEnv) != "" }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// command runs a program to its end.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// rounds returns how often a row repeats its fault: n times, or more when it soaks.
func rounds(n int) int {
	if soaks() {
		return 10 * n
	}
	return n
}
