package syslog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager plays systemd's side of the FD store.
type manager struct {
	conn  *net.UnixConn
	files map[string]*os.File
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	m := &manager{conn: c, files: map[string]*os.File{}}
	t.Cleanup(func() {
		c.Close()
		for _, f := range m.files {
			f.Close()
		}
	})
	return m
}

// next takes one notification.
func (m *manager) next(t *testing.T) {
	t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf, oob := make([]byte, 1000), make([]byte, 100)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(buf[:n]), "\n")
	name := strings.TrimPrefix(lines[len(lines)-1], "FDNAME=")
	switch {
	case slices.Equal(lines[:2], []string{"FDSTORE=1", "FDPOLL=0"}):
		control, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			t.Fatal(err)
		}
		fds, err := unix.ParseUnixRights(&control[0])
		if err != nil {
			t.Fatal(err)
		}
		m.files[name] = os.NewFile(uintptr(fds[0]), name)
	case lines[0] == "FDSTOREREMOVE=1":
		m.files[name].Close()
		delete(m.files, name)
	default:
		t.Fatalf("notification %q", buf[:n])
	}
}

// pass returns what the next process inherits.
func (m *manager) pass(t *testing.T) *Inherited {
	t.Helper()
	s := &Inherited{}
	for name, f := range m.files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, os.NewFile(uintptr(fd), name))
	}
	return s
}

// TestARestartRefusesNobody: while no process listens, senders connect and send
// as ever, and the next process has it all.
func TestARestartRefusesNobody(t *testing.T) {
	dir := t.TempDir()
	for _, listenOn := range []string{"tcp://127.0.0.1:%d", "udp://127.0.0.1:%d", "unix:" + dir + "/s", "unixgram:" + dir + "/d"} {
		t.Run(listenOn, func(t *testing.T) {
			m := newManager(t)
			if strings.Contains(listenOn, "%d") {
				listenOn = fmt.Sprintf(listenOn, freePort(t))
			}
			o := Options{Listen: listenOn, Inherited: &Inherited{}}
			first := listen(t, o).start(t)
			m.next(t)
			send(t, first.dial(t), "<13>before\n")
			first.sink.await(t, 1)
			address := first.Addrs()[0]
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}

			c, err := net.Dial(address.Network(), address.String())
			if err != nil {
				t.Fatalf("refused between two processes: %v", err)
			}
			defer c.Close()
			send(t, c, "<13>between\n")

			o.Inherited = m.pass(t)
			second := listen(t, o).start(t)
			m.next(t)
			send(t, c, "<13>after\n")
			got := texts(second.sink.await(t, 2))
			if !slices.Equal(got, []string{"<13>between", "<13>after"}) {
				t.Errorf("got %q", got)
			}
			if len(o.Inherited.files) > 0 {
				t.Error("the stored socket was not taken")
			}
		})
	}
}

// TestARestartCountsDropsOnce: the kernel's count is of the socket, not of the process.
func TestARestartCountsDropsOnce(t *testing.T) {
	m := newManager(t)
	o := Options{Listen: fmt.Sprintf("udp://127.0.0.1:%d", freePort(t)), ReceiveBufferBytes: 8 << 10}
	first := listen(t, o).start(t)
	m.next(t)
	c := first.dial(t)
	eventually(t, "the kernel drops", func() bool {
		for range 1000 {
			send(t, c, "<13>"+strings.Repeat("x", 300))
		}
		return first.Stats().KernelMessages > 0
	})
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	o.Inherited, o.ReceiveBufferBytes = m.pass(t), 0
	second := listen(t, o).start(t)
	m.next(t)
	send(t, c, "<13>x")
	second.sink.await(t, 1)
	if s := second.Stats(); s.KernelMessages > 0 {
		t.Errorf("after a restart: %+v", s)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestSocketsNobodyWants are closed, and taken out of the FD store.
func TestSocketsNobodyWants(t *testing.T) {
	m := newManager(t)
	old := listen(t, Options{Listen: "udp://127.0.0.1:0"}).start(t)
	m.next(t)
	old.stop()
	rest := m.pass(t)
	if err := rest.Close(); err != nil {
		t.Fatal(err)
	}
	m.next(t)
	if len(m.files) > 0 || len(rest.files) > 0 {
		t.Errorf("left: %v, %v", m.files, rest.files)
	}
}

// TestAStoredSocketWhosePathIsGone cannot be reached any more: a new one is made.
func TestAStoredSocketWhosePathIsGone(t *testing.T) {
	m := newManager(t)
	path := filepath.Join(t.TempDir(), "s")
	o := Options{Listen: "unix:" + path}
	listen(t, o).start(t).stop()
	m.next(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	o.Inherited = m.pass(t)
	r := listen(t, o).start(t)
	send(t, r.dial(t), "<13>x\n")
	r.sink.await(t, 1)
}

// TestSocketUnit: all sockets of a unit's name are used, whatever their kind, and as
// the unit has made them.
func TestSocketUnit(t *testing.T) {
	stream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	datagram, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	m := &manager{files: map[string]*os.File{}}
	for i, c := range []interface{ File() (*os.File, error) }{stream.(*net.TCPListener), datagram.(*net.UDPConn)} {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m.files[fmt.Sprint(i)] = f
	}
	inherited := m.pass(t)
	for i, f := range inherited.files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		inherited.files[i] = os.NewFile(uintptr(fd), "syslog.socket")
	}
	before := receiveBuffer(t, datagram)
	r := listen(t, Options{Listen: "systemd:syslog.socket", Inherited: inherited, ReceiveBufferBytes: before / 4}).start(t)
	for _, a := range r.Addrs() {
		c, err := net.Dial(a.Network(), a.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		send(t, c, "<13>x\n")
	}
	r.sink.await(t, 2)
	if now := receiveBuffer(t, datagram); now != before {
		t.Errorf("the receive buffer has %d bytes, had %d", now, before)
	}
}

func receiveBuffer(t *testing.T, c net.PacketConn) (size int) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	control := raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
	if err := errors.Join(control, err); err != nil {
		t.Fatal(err)
	}
	return size
}
