package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a file system of a size and returns where; it ends with the test.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("faults", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// disk is a file system on a loop device.
type disk struct{ image, dir string }

// newDisk makes a file system of a kind and mounts it with options.
func newDisk(t *testing.T, kind string, options ...string) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(t.TempDir(), kind), dir: t.TempDir()}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, map[string]int64{"ext4": 64 << 20, "xfs": 320 << 20}[kind]))
	force := map[string]string{"ext4": "-F", "xfs": "-f"}[kind]
	command(t, "mkfs."+kind, "-q", force, d.image)
	d.mount(t, options...)
	t.Cleanup(func() { must(t, unix.Unmount(d.dir, unix.MNT_DETACH)) })
	return d
}

func (d *disk) mount(t *testing.T, options ...string) {
	t.Helper()
	command(t, "mount", "-o", strings.Join(append([]string{"loop"}, options...), ","), d.image, d.dir)
}

// turn ends the mount and makes another one, of what is on the disk.
func (d *disk) turn(t *testing.T, options ...string) {
	t.Helper()
	command(t, "umount", d.dir)
	d.mount(t, options...)
}

// underStrace returns what runs logship so that calls are tampered with from its start
// on: "error=EIO" (strace(1), "Tampering"). logship itself stays the child.
func underStrace(t *testing.T, calls, tampering string) []string {
	t.Helper()
	return []string{"strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", filepath.Join(t.TempDir(), "strace"),
		"-e", "trace=" + calls, "-e", "inject=" + calls + ":" + tampering}
}

// tamper does the same with a logship that runs, until end is called.
func (s *setup) tamper(t *testing.T, calls, tampering string) (end func()) {
	t.Helper()
	p := begin(t, "strace", "-f", "-p", strconv.Itoa(s.logship.cmd.Process.Pid), "-o", filepath.Join(t.TempDir(), "strace"),
		"-e", "trace="+calls, "-e", "inject="+calls+":"+tampering)
	p.said(t, "attached")
	return func() {
		p.signal(unix.SIGINT) // it detaches
		<-p.done
	}
}

const syncs = "fsync,fdatasync"

// TestRow03PowerCut: what was accepted is on the disk, whenever the power is cut; and
// the same test finds what a logship whose syncs do nothing loses.
func TestRow03PowerCut(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		needNamespaces(t, "mount", "umount", "strace", "mkfs."+kind)
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, 3)
			s.powerCuts(t, newDisk(t, kind), rounds(4))
			s.verdict(t)
		})
		t.Run(kind+" without sync", func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, 3)
			s.wrap = underStrace(t, syncs, "retval=0")
			s.powerCuts(t, newDisk(t, kind), 4)
			s.load.stop()
			_, accepted, _ := s.load.counts()
			s.stopLogship(t)
			s.arrivals.load(t)
			if n := s.missing(accepted); n == 0 {
				t.Error("nothing is lost without sync: the power is not cut, or nobody would see it")
			} else {
				t.Logf("%d of %d are lost", n, accepted)
			}
		})
	}
}

// powerCuts cuts the power while the receiver is away, so that all that was accepted is
// on the disk or nowhere. What was accepted in the moment of the cut does not count as
// accepted: a sync beside it can succeed and be undone.
func (s *setup) powerCuts(t *testing.T, d *disk, rounds int) {
	t.Helper()
	s.state = filepath.Join(d.dir, "state")
	s.begin(t, 2000)
	for range rounds {
		s.receiver.kill()
		s.faults++
		s.load.more(t, 200+rand.IntN(1000))
		s.load.pause()
		must(t, goDown(d.dir))
		s.killLogship(t)
		d.turn(t)
		s.load.resume()
		s.beginReceiver(t)
		s.beginLogship(t)
		s.recover(t, 5*time.Second)
	}
}

// goDown makes the file system at a mount point stop at once, without flushing its log
// (XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN).
func goDown(dir string) error {
	const goingDown, noLogFlush = 0x8004587d, 2
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.IoctlSetPointerInt(int(d.Fd()), goingDown, noLogFlush)
}

// TestRow04ShortWrites: no file may grow over a limit, so that writes are cut anywhere.
func TestRow04ShortWrites(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	s := newSetup(t, 4)
	s.begin(t, 2000)
	var before unix.Rlimit
	pid := s.logship.cmd.Process.Pid
	must(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 200_000, Max: unix.RLIM_INFINITY}, &before))
	until(t, patience, func() (bool, string) {
		n := s.metric(t, "logship_spool_failures_total")
		return n >= 3, fmt.Sprintf("%v writes have failed", n)
	})
	must(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &before, nil))
	s.recover(t, 2*time.Second)
	s.killLogship(t)
	s.beginLogship(t)
	s.recover(t, 2*time.Second)
	s.verdict(t)
}

// TestRow05BitRot: bits and blocks of a spool rot while logship is stopped, or after it
// was killed. What they hit is lost and told, message by message, and nothing else.
func TestRow05BitRot(t *testing.T) {
	for name, rot := range map[string]struct {
		times, bytes int // bytes 0: one bit
	}{"bits": {600, 0}, "blocks": {100, 512}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, 5)
			s.set = []string{"spool.max=8MiB"}
			s.beginLogship(t)
			s.beginLoad(t, 4000, post(t, s.inputAddress(), clientTimeout))
			s.load.more(t, 10000)
			s.load.pause()
			s.stopLogship(t)
			spool := filepath.Join(s.state, "spool")
			s.damage = rotSegments(t, spool, rot.times, rot.bytes)
			want := s.checkSpool(t, spool)
			s.load.resume()
			s.beginReceiver(t)
			s.beginLogship(t)
			s.flows(t)
			s.recover(t, 5*time.Second)
			if got := s.verdict(t); got != want || got < rot.times/2 {
				t.Errorf("%d messages are lost, spool check says %d", got, want)
			}
		})
	}
}

// rotSegments flips bits, or overwrites so many bytes, anywhere in the segments of a
// spool. It returns how many messages that can have hit at most.
func rotSegments(t *testing.T, dir string, times, size int) int {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	must(t, err)
	if len(paths) < 2 {
		t.Fatalf("%d segments", len(paths))
	}
	rng := rand.New(rand.NewPCG(5, uint64(size)))
	for i, path := range paths {
		b, err := os.ReadFile(path)
		must(t, err)
		for n := i; n < times; n += len(paths) {
			at := rng.IntN(len(b))
			if size == 0 {
				b[at] ^= 1 << rng.IntN(8)
			}
			for j := at; j < min(len(b), at+size); j++ {
				b[j] = byte(rng.Uint32())
			}
		}
		must(t, os.WriteFile(path, b, 0o600))
	}
	return times * (2 + size/fillingBytes)
}

// checkSpool returns how many messages "logship spool check" says are lost.
func (s *setup) checkSpool(t *testing.T, dir string) (lost int) {
	t.Helper()
	out, err := exec.Command(logship, "spool", "check", dir).CombinedOutput()
	found := regexp.MustCompile(`lost messages: (\d+)\n`).FindSubmatch(out)
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || found == nil {
		t.Fatalf("spool check: %v: %s", err, out)
	}
	lost, err = strconv.Atoi(string(found[1]))
	must(t, err)
	return lost
}

// TestRow06FsyncEIO: syncs fail, again and again. What was not durable is written to
// another file, and syncs of the first one are not believed any more.
func TestRow06FsyncEIO(t *testing.T) {
	needNamespaces(t, "strace")
	t.Parallel()
	s := newSetup(t, 6)
	s.begin(t, 1000)
	end := s.tamper(t, syncs, "error=EIO:when=1+3")
	until(t, patience, func() (bool, string) {
		n := s.metric(t, "logship_spool_failures_total")
		return n >= 3, fmt.Sprintf("%v syncs have failed", n)
	})
	end()
	s.recover(t, 2*time.Second)
	s.killLogship(t)
	s.beginLogship(t)
	s.recover(t, 2*time.Second)
	s.verdict(t)
}

// TestRow07NoSpace: the disk is full, then has space again. Senders wait meanwhile, and
// some of them not as long as it takes.
func TestRow07NoSpace(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	s := newSetup(t, 7)
	dir := mountTmpfs(t, "24m")
	s.state = filepath.Join(dir, "state")
	s.beginWith(t, 2000, post(t, s.inputAddress(), 200*time.Millisecond))
	for range rounds(2) {
		s.load.more(t, 1000)
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 32<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the ballast fits: %v", err)
		}
		s.hasTrouble(t)
		_, _, failed := s.load.counts()
		until(t, patience, func() (bool, string) {
			_, _, now := s.load.counts()
			return now > failed+100, "no client gives up"
		})
		must(t, os.Remove(ballast))
		s.recover(t, 2*time.Second)
	}
	s.verdict(t)
}

// hasTrouble returns when logship says that it cannot store messages.
func (s *setup) hasTrouble(t *testing.T) {
	t.Helper()
	until(t, patience, func() (bool, string) {
		return s.metric(t, "logship_spool_trouble") == 1, "logship has no trouble with the spool"
	})
}

// TestRow08ReadOnly: the file system with the spool and the state turns read-only. What
// is stored elsewhere goes on; the spool does when the disk is repaired.
func TestRow08ReadOnly(t *testing.T) {
	needNamespaces(t, "mount", "umount", "mkfs.ext4", "fsck.ext4")
	t.Parallel()
	s := newSetup(t, 8)
	d := newDisk(t, "ext4", "errors=remount-ro")
	s.state = filepath.Join(d.dir, "state")
	s.beginFile(t, 1000)
	trigger(t, d)
	waiting := generate(t, 50, post(t, s.inputAddress(), clientTimeout))
	s.hasTrouble(t)
	s.recover(t, time.Second)
	s.load.more(t, 2000)
	waiting.stop()
	if _, accepted, _ := waiting.counts(); accepted > 0 {
		t.Errorf("%d messages were accepted by a spool that cannot store them", accepted)
	}
	s.stopLogship(t)
	s.faults++ // the positions are on the disk as they were
	d.repair(t)
	s.beginLogship(t)
	s.load.pause()
	s.await(t, func() (bool, string) { // order is kept within an input only
		issued, _, _ := s.load.counts()
		return s.latest >= issued, fmt.Sprintf("of %d messages in the file %d have come", issued, s.latest)
	})
	s.load.put = post(t, s.inputAddress(), clientTimeout)
	s.load.resume()
	s.recover(t, 2*time.Second)
	s.verdict(t)
}

// repair checks the disk and mounts it again.
func (d *disk) repair(t *testing.T) {
	t.Helper()
	command(t, "umount", d.dir)
	out, err := exec.Command("fsck.ext4", "-p", d.image).CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 { // 1: corrected
		t.Errorf("fsck: %v: %s", err, out)
	}
	d.mount(t)
}

// trigger makes an ext4 find an error, which turns it read-only (ext4(5),
// "errors=remount-ro").
func trigger(t *testing.T, d *disk) {
	t.Helper()
	out, err := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", d.image).Output()
	must(t, err)
	name := filepath.Base(strings.TrimSpace(string(out)))
	must(t, os.WriteFile(fmt.Sprintf("/sys/fs/ext4/%s/trigger_fs_error", name), []byte("1"), 0))
}

// TestRow09SlowDisk: every sync takes 200 ms. Senders wait, and nothing piles up.
func TestRow09SlowDisk(t *testing.T) {
	needNamespaces(t, "strace")
	t.Parallel()
	s := newSetup(t, 9)
	s.begin(t, 5000)
	end := s.tamper(t, syncs, "delay_enter=200ms")
	began := time.Now()
	s.load.more(t, 1000)
	if rate := 1000 / time.Since(began).Seconds(); rate > 1000 {
		t.Errorf("%.0f messages per second were accepted: the disk is not slow", rate)
	}
	end()
	s.recover(t, 2*time.Second)
	s.verdict(t)
}
