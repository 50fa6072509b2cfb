package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideEnv says that the test runs in a mount namespace of its own.
const insideEnv = "SPOOL_TEST_INSIDE"

// TestRow03PowerCut cuts the power of real file systems while a process appends:
// ext4 and XFS on loop devices are shut down without flushing their logs, the
// ioctl that xfstests calls "godown".
//
// It needs root. Mounts are made in a mount namespace of the test's own: they end with
// it, and other tests' namespaces do not keep them.
func TestRow03PowerCut(t *testing.T) {
	if err := canMount(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if os.Getenv(insideEnv) == "" {
		runInside(t)
		return
	}
	for _, fs := range []struct {
		name, mkfs string
		args       []string
		size       int64
	}{
		{"ext4", "mkfs.ext4", []string{"-q", "-F"}, 64 << 20},
		{"xfs", "mkfs.xfs", []string{"-q", "-f"}, 320 << 20},
	} {
		image := filepath.Join(t.TempDir(), fs.name)
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, fs.size); err != nil {
			t.Fatal(err)
		}
		command(t, fs.mkfs, append(fs.args, image)...)
		t.Run(fs.name, func(t *testing.T) {
			if round, err := powerCuts(t, image, "sync", 8); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		})
		t.Run(fs.name+" without sync", func(t *testing.T) {
			round, err := powerCuts(t, image, "nosync", 8)
			if err == nil {
				t.Fatalf("nothing is lost in 8 rounds: the power is not cut")
			}
			t.Logf("found in round %d: %v", round, err)
		})
	}
}

// canMount returns nil if file systems can be mounted here, else what is missing.
func canMount() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("no power cut: needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("no power cut: no loop devices: %w", err)
	}
	for _, tool := range []string{"mkfs.ext4", "mkfs.xfs", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("no power cut: %w (Debian packages e2fsprogs, xfsprogs, mount)", err)
		}
	}
	return nil
}

// runInside runs this test once more, in a mount namespace of its own.
func runInside(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || strings.Contains(string(out), "--- SKIP") || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in the namespace: %v", err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// powerCuts returns the round in which something was not as promised, and what.
func powerCuts(t *testing.T, image, mode string, rounds int) (int, error) {
	mnt := t.TempDir()
	dir := filepath.Join(mnt, mode, "spool")
	next, confirmed, messages := uint64(1), uint64(0), uint64(0)
	for round := range rounds {
		command(t, "mount", "-o", "loop", image, mnt)
		c := startChild(t, dir, next, mode)
		acked := c.await(t, 1+rand.IntN(60)) // acknowledged before the cut
		err := shutdown(mnt)
		confirmed = max(confirmed, c.kill())
		command(t, "umount", mnt)
		if err != nil {
			t.Fatalf("shut the file system down: %v", err)
		}
		command(t, "mount", "-o", "loop", image, mnt)
		highest, err := verify(dir, confirmed, acked)
		command(t, "umount", mnt)
		if err != nil {
			return round, err
		}
		messages += acked - next + 1
		// What was acknowledged while the file system was being shut down may be gone:
		// unlike a power cut, that lets the process go on, and ext4 may end a sync without
		// an error then. Its numbers are used again.
		next = highest + 1
	}
	t.Logf("%d messages in %d rounds", messages, rounds)
	return 0, nil
}

// shutdown makes the file system at mnt stop at once, without flushing its log
// (XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN).
func shutdown(mnt string) error {
	const goingDown, noLogFlush = 0x8004587d, 2
	d, err := os.Open(mnt)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.IoctlSetPointerInt(int(d.Fd()), goingDown, noLogFlush)
}
