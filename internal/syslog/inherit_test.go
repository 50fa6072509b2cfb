package syslog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sidecar/internal/socket"
	"sidecar/internal/socket/sockettest"
)

// TestARestartRefusesNobody: while no process listens, senders connect and send
// as ever, and the next process has it all.
func TestARestartRefusesNobody(t *testing.T) {
	dir := t.TempDir()
	for _, listenOn := range []string{"tcp://127.0.0.1:%d", "udp://127.0.0.1:%d", "unix:" + dir + "/s", "unixgram:" + dir + "/d"} {
		t.Run(listenOn, func(t *testing.T) {
			m := sockettest.NewManager(t)
			if strings.Contains(listenOn, "%d") {
				listenOn = fmt.Sprintf(listenOn, freePort(t))
			}
			o := Options{Listen: listenOn}
			first := listen(t, o).start(t)
			m.Next(t)
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

			o.Inherited = m.Pass(t)
			second := listen(t, o).start(t)
			m.Next(t)
			send(t, c, "<13>after\n")
			got := texts(second.sink.await(t, 2))
			if !slices.Equal(got, []string{"<13>between", "<13>after"}) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestARestartCountsDropsOnce: the kernel's count is of the socket, not of the process.
// What it drops while no process listens is counted too.
func TestARestartCountsDropsOnce(t *testing.T) {
	m := sockettest.NewManager(t)
	sockets := map[uint64]uint32{} // what was told of each
	told := uint64(0)
	o := Options{Listen: fmt.Sprintf("udp://127.0.0.1:%d", freePort(t)), ReceiveBufferBytes: 8 << 10, OnDiscard: func(d Discard) {
		told += d.Messages
		sockets[d.Socket] = d.Drops
	}, KernelDrops: func(socket uint64) uint32 { return sockets[socket] }}
	first := listen(t, o).start(t)
	m.Next(t)
	c := first.dial(t)
	sent := uint64(0)
	flood := func() {
		for range 1000 { // more than the buffer holds
			send(t, c, "<13>"+strings.Repeat("x", 300))
		}
		sent += 1000
	}
	eventually(t, "the kernel drops", func() bool { flood(); return first.Stats().KernelMessages > 0 })
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if told != first.Stats().KernelMessages || len(sockets) != 1 {
		t.Fatalf("told %d, %v: %+v", told, sockets, first.Stats())
	}
	flood()
	o.Inherited, o.ReceiveBufferBytes = m.Pass(t), 0
	second := listen(t, o).start(t)
	m.Next(t)
	eventually(t, "all are accounted for", func() bool {
		send(t, c, "<13>x")
		sent++
		a, b := first.Stats(), second.Stats()
		return b.KernelMessages > 0 && a.Messages+a.KernelMessages+b.Messages+b.KernelMessages == sent
	})
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	third := Options{Listen: o.Listen, Inherited: m.Pass(t), KernelDrops: o.KernelDrops}
	last := listen(t, third).start(t)
	m.Next(t)
	send(t, c, "<13>x")
	last.sink.await(t, 1)
	if s := last.Stats(); s.KernelMessages > 0 || told != first.Stats().KernelMessages+second.Stats().KernelMessages {
		t.Errorf("after a restart without drops: %+v, told %d", s, told)
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
	var files []*os.File
	for _, c := range []interface{ File() (*os.File, error) }{stream.(*net.TCPListener), datagram.(*net.UDPConn)} {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, sockettest.Copy(t, f, "syslog.socket"))
	}
	before := receiveBuffer(t, datagram)
	r := listen(t, Options{Listen: "systemd:syslog.socket", Inherited: socket.NewInherited(files), ReceiveBufferBytes: before / 4}).start(t)
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
