// Command probe tries out what a sandbox of systemd allows. It is run in place of a
// daemon, with everything that the daemon's unit says, and writes to probe.json in
// $STATE_DIRECTORY how each attempt ended: its name and the error, "" for none. It leaves
// nothing behind but that file.
package main

import (
	"encoding/json"
	"errors"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// perLinux32 is PER_LINUX32 of personality(2).
const perLinux32 = 8

func main() {
	dir := os.Getenv("STATE_DIRECTORY")
	results := map[string]string{}
	for name, try := range attempts(dir) {
		results[name] = ""
		if err := try(); err != nil {
			results[name] = err.Error()
		}
	}
	b, err := json.Marshal(results)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "probe.json"), b, 0o600)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// attempts returns what is tried, by its name. dir is the state directory.
func attempts(dir string) map[string]func() error {
	return map[string]func() error{
		"read /etc":     func() error { return list("/etc") },
		"read /var/log": func() error { return list("/var/log/journal") },
		"read /var/lib": func() error { return list("/var/lib/dpkg") },
		"read /root":    func() error { return list("/root") },
		"read /home":    func() error { return list("/home") },
		"see process 1": func() error { return list("/proc/1") },
		"see /proc/sys": func() error { return list("/proc/sys") },

		"write the state": func() error { return write(dir) },
		"write /etc":      func() error { return write("/etc") },
		"write /usr":      func() error { return write("/usr") },
		"write /var/log":  func() error { return write("/var/log") },
		"write /run":      func() error { return write("/run") },
		"write /":         func() error { return write("/") },

		"socket unix":    func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
		"socket IPv4":    func() error { return socket(unix.AF_INET, unix.SOCK_STREAM) },
		"socket IPv6":    func() error { return socket(unix.AF_INET6, unix.SOCK_STREAM) },
		"socket netlink": func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
		"socket packet":  func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW) },
		"socket raw":     func() error { return socket(unix.AF_INET, unix.SOCK_RAW) },

		"mount":          mount,
		"trace":          trace,
		"namespace":      func() error { return unix.Unshare(unix.CLONE_NEWUTS) },
		"chroot":         func() error { return unix.Chroot("/") },
		"host name":      hostname,
		"become another": func() error { return syscall.Setgroups([]int{0}) },
		"signal others":  func() error { return unix.Kill(1, 0) },
		"run faster":     func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) },
		"personality":    func() error { return call(unix.SYS_PERSONALITY, perLinux32) },
		"give away":      func() error { return changed(dir, func(name string) error { return os.Chown(name, 1, 1) }) },
		"make it setuid": func() error { return changed(dir, func(name string) error { return unix.Chmod(name, 0o4755) }) },
		"make code":      makeCode,
	}
}

func list(dir string) error {
	_, err := os.ReadDir(dir)
	return err
}

func write(dir string) error {
	return changed(dir, func(string) error { return nil })
}

// changed makes a file, changes it, and removes it.
func changed(dir string, change func(name string) error) error {
	f, err := os.CreateTemp(dir, "probe")
	if err != nil {
		return err
	}
	return errors.Join(change(f.Name()), f.Close(), os.Remove(f.Name()))
}

func socket(family, kind int) error {
	protocol := 0
	if family == unix.AF_INET && kind == unix.SOCK_RAW {
		protocol = unix.IPPROTO_ICMP
	}
	fd, err := unix.Socket(family, kind, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func mount() error {
	dir, err := os.MkdirTemp("/tmp", "probe")
	if err != nil {
		return err
	}
	err = unix.Mount("tmpfs", dir, "tmpfs", 0, "")
	if err == nil {
		err = unix.Unmount(dir, 0)
	}
	return errors.Join(err, os.Remove(dir))
}

// trace starts a child that is traced, and so waits when it begins.
func trace() error {
	child := exec.Command("/proc/self/exe")
	child.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := child.Start(); err != nil {
		return err
	}
	err := child.Process.Kill()
	_ = child.Wait() // was killed
	return err
}

func hostname() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return unix.Sethostname([]byte(name))
}

func call(number, argument uintptr) error {
	if _, _, errno := unix.RawSyscall(number, argument, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func makeCode() error {
	b, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	return unix.Munmap(b)
}
