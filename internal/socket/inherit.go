package socket

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Inherited are the sockets that systemd passed to this process: those of socket
// units, and those of the FD store that an earlier process gave to it
// (sd_listen_fds(3)). nil is none. It is for one goroutine.
type Inherited struct{ files []*os.File }

// Inherit takes over what systemd passed. It can be called once: then the environment
// says nothing of it any more.
func Inherit() *Inherited { return NewInherited(activation.Files(true)) }

// NewInherited returns files, which then belong to it, as inherited sockets. The name of
// each is that of its FileDescriptorName= or in the FD store (FDNAME).
func NewInherited(files []*os.File) *Inherited { return &Inherited{files} }

// take returns the sockets of a name. They then belong to the caller.
func (in *Inherited) take(name string) []*os.File {
	if in == nil {
		return nil
	}
	var taken, left []*os.File
	for _, f := range in.files {
		if f.Name() == name {
			taken = append(taken, f)
		} else {
			left = append(left, f)
		}
	}
	in.files = left
	return taken
}

// Close closes the sockets that no input took, and removes those of the FD store
// there: the configuration does not name them any more.
func (in *Inherited) Close() error {
	var errs []error
	for _, f := range in.files {
		errs = append(errs, f.Close())
		if strings.HasPrefix(f.Name(), storePrefix) {
			errs = append(errs, notify("FDSTOREREMOVE=1\nFDNAME="+f.Name()))
		}
	}
	in.files = nil
	return errors.Join(errs...)
}

// storePrefix begins the names of sockets in the FD store.
const storePrefix = "logship-"

// store gives systemd a socket to keep (sd_pid_notify_with_fds(3)), so that while no
// process listens the kernel holds what comes. It needs FileDescriptorStoreMax= in
// the unit; without systemd, or without that, it does nothing.
func store(name string, c syscall.Conn) error {
	raw, err := c.SyscallConn() // not (*os.File).Fd: that would make the socket block
	if err != nil {
		return err
	}
	control := raw.Control(func(fd uintptr) {
		err = notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, int(fd))
	})
	return errors.Join(control, err)
}

// notify sends a notification with descriptors. go-systemd's has none.
func notify(state string, fds ...int) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer unix.Close(c)
	if err := unix.Sendmsg(c, []byte(state), rights, &unix.SockaddrUnix{Name: path}, 0); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
