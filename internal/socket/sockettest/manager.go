// Package sockettest plays systemd's side of the FD store, for tests of what listens.
package sockettest

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/socket"
)

// Manager is a service manager that keeps descriptors (sd_pid_notify_with_fds(3)). It is
// for one goroutine.
type Manager struct {
	conn  *net.UnixConn
	files map[string]*os.File // by FDNAME
}

// NewManager returns a manager that NOTIFY_SOCKET names until the end of the test.
func NewManager(t *testing.T) *Manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	m := &Manager{conn: c, files: map[string]*os.File{}}
	t.Cleanup(func() {
		c.Close()
		for _, f := range m.files {
			f.Close()
		}
	})
	return m
}

// Next takes one notification, waits for it if need be, and does what it asks for. It fails
// the test if that is not about the FD store.
func (m *Manager) Next(t *testing.T) {
	t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf, oob := make([]byte, 1000), make([]byte, 100)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(buf[:n]), "\n")
	name := strings.TrimPrefix(lines[len(lines)-1], "FDNAME=")
	old := m.files[name]
	delete(m.files, name)
	if old != nil {
		old.Close()
	}
	switch {
	case slices.Equal(lines[:len(lines)-1], []string{"FDSTORE=1", "FDPOLL=0"}):
		control, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			t.Fatal(err)
		}
		fds, err := unix.ParseUnixRights(&control[0])
		if err != nil {
			t.Fatal(err)
		}
		m.files[name] = os.NewFile(uintptr(fds[0]), name)
	case lines[0] != "FDSTOREREMOVE=1" || old == nil:
		t.Fatalf("notification %q", buf[:n])
	}
}

// Nothing fails the test if there is another notification.
func (m *Manager) Nothing(t *testing.T) {
	t.Helper()
	raw, err := m.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n, buf := 0, make([]byte, 1000)
	if err := raw.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT) }); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Errorf("notification %q", buf[:n])
	}
}

// Names returns the names of what is kept.
func (m *Manager) Names() []string {
	var all []string
	for name := range m.files {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Pass returns what the next process inherits. The caller closes it.
func (m *Manager) Pass(t *testing.T) *socket.Inherited {
	t.Helper()
	var files []*os.File
	for name, f := range m.files {
		files = append(files, Copy(t, f, name))
	}
	return socket.NewInherited(files)
}

// PassAs returns what the next process inherits if all of it belongs to a socket unit with
// FileDescriptorName=name. The caller closes it.
func (m *Manager) PassAs(t *testing.T, name string) *socket.Inherited {
	t.Helper()
	var files []*os.File
	for _, f := range m.files {
		files = append(files, Copy(t, f, name))
	}
	return socket.NewInherited(files)
}

// Copy returns a copy of a descriptor under the name of a socket unit, as the unit's
// service inherits it.
func Copy(t *testing.T, f *os.File, name string) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}
