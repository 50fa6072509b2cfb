package socket_test

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sidecar/internal/socket"
	"sidecar/internal/socket/sockettest"
)

func address(t *testing.T, s string) socket.Address {
	t.Helper()
	network, name, _ := strings.Cut(s, ":")
	a, err := socket.NewAddress(network, name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t *testing.T, in *socket.Inherited, s string) *socket.Socket {
	t.Helper()
	all, err := in.Open(address(t, s), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d sockets", len(all))
	}
	t.Cleanup(func() { all[0].Close() })
	return all[0]
}

func TestAddresses(t *testing.T) {
	for s, want := range map[string]string{
		"udp://127.0.0.1:514":     "udp 127.0.0.1:514",
		"tcp://[::1]:514":         "tcp [::1]:514",
		"tcp://:514":              "tcp :514",
		"unix:/run/s":             "unix /run/s",
		"unixgram:///run/s":       "unixgram /run/s",
		"systemd:syslog":          "systemd syslog",
		"tcp://127.0.0.1":         "want HOST:PORT",
		"tcp://127.0.0.1:":        "want HOST:PORT",
		"tcp:127.0.0.1:1":         "want HOST:PORT",
		"tcp://127.0.0.1:1/path":  "want HOST:PORT",
		"udp://me@127.0.0.1:1":    "want HOST:PORT",
		"udp://127.0.0.1:1?x":     "want HOST:PORT",
		"udp://127.0.0.1:x":       "want HOST:PORT",
		"udp://127.0.0.1:65536":   "want HOST:PORT",
		"unix:relative":           "not absolute",
		"systemd:":                "no name",
		"http://127.0.0.1:1/gelf": `network "http" is not known`,
	} {
		network, name, _ := strings.Cut(s, ":")
		a, err := socket.NewAddress(network, name)
		if err == nil && a.Network+" "+a.Name != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %s", s, a, err, want)
		}
	}
}

// TestStoredSockets: what the next process inherits is the same socket, which this
// process need not make.
func TestStoredSockets(t *testing.T) {
	dir := t.TempDir()
	for _, listen := range []string{"tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix:" + dir + "/s", "unixgram:" + dir + "/d"} {
		t.Run(listen, func(t *testing.T) {
			m := sockettest.NewManager(t)
			first := open(t, nil, listen)
			if err := first.Keep(); err != nil {
				t.Fatal(err)
			}
			m.Next(t)
			at := first.Addr().String()
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			in := m.Pass(t)
			second := open(t, in, listen)
			if at != second.Addr().String() || !first.Made || second.Made {
				t.Errorf("%s at %s (made %v), then at %s (made %v)", listen, at, first.Made, second.Addr(), second.Made)
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			if names := m.Names(); len(names) != 1 || strings.Contains(names[0], ":") {
				t.Errorf("kept: %q", names)
			}
		})
	}
}

// TestSocketsNobodyWants are closed, and taken out of the FD store; those of a socket
// unit are the unit's.
func TestSocketsNobodyWants(t *testing.T) {
	m := sockettest.NewManager(t)
	old := open(t, nil, "tcp://127.0.0.1:0")
	if err := old.Keep(); err != nil {
		t.Fatal(err)
	}
	m.Next(t)
	at := old.Addr().String()
	old.Close()
	if err := m.Pass(t).Close(); err != nil {
		t.Fatal(err)
	}
	m.Next(t)
	if names := m.Names(); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("the socket takes connections")
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err := socket.NewInherited([]*os.File{sockettest.Copy(t, f, "syslog")}).Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	m.Nothing(t)
}

// TestAStoredSocketWhosePathIsGone cannot be reached any more: a new one is made.
func TestAStoredSocketWhosePathIsGone(t *testing.T) {
	m := sockettest.NewManager(t)
	path := filepath.Join(t.TempDir(), "s")
	old := open(t, nil, "unix:"+path)
	if err := old.Keep(); err != nil {
		t.Fatal(err)
	}
	m.Next(t)
	old.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if s := open(t, m.Pass(t), "unix:"+path); !s.Made {
		t.Error("the old socket was taken")
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}

// TestUnitSockets: all of a name are taken, or none.
func TestUnitSockets(t *testing.T) {
	stream, datagram := open(t, nil, "tcp://127.0.0.1:0"), open(t, nil, "udp://127.0.0.1:0")
	var files []*os.File
	for i, c := range []any{stream.Listener, datagram.Datagram, stream.Listener} {
		f, err := c.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, sockettest.Copy(t, f, []string{"in", "in", "other"}[i]))
	}
	in := socket.NewInherited(files)
	all, err := in.Open(address(t, "systemd:in"), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all {
		defer s.Close()
		if s.Made {
			t.Errorf("%s: made", s.Addr())
		}
		got = append(got, s.Addr().String())
	}
	if want := []string{stream.Addr().String(), datagram.Addr().String()}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := in.Open(address(t, "systemd:in"), 0); err == nil {
		t.Error("taken twice")
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}

	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in = socket.NewInherited([]*os.File{sockettest.Copy(t, f, "in")})
	if _, err := in.Open(address(t, "systemd:in"), 0); err == nil || !strings.Contains(err.Error(), "take over in: ") {
		t.Errorf("a file that is no socket: %v", err)
	}
}

// TestStaleSocketIsReplaced: one that a process which was killed left behind; not one that
// is in use, nor anything else.
func TestStaleSocketIsReplaced(t *testing.T) {
	for _, network := range []string{"unix", "unixgram"} {
		path := filepath.Join(t.TempDir(), "s")
		fresh := open(t, nil, network+":"+path)
		if _, err := (*socket.Inherited)(nil).Open(address(t, network+":"+path), 0o600); err == nil || !strings.Contains(err.Error(), "another program listens there") {
			t.Errorf("%s in use: %v", network, err)
		}
		if err := fresh.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: an orderly end leaves the path", network)
		}
		t.Run(network, func(t *testing.T) {
			sockettest.NewManager(t) // then the end leaves it
			open(t, nil, network+":"+path).Close()
		})
		open(t, nil, network+":"+path)
		if st, err := os.Lstat(path); err != nil || st.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("%s: %v, %v", network, st.Mode(), err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (*socket.Inherited)(nil).Open(address(t, "unix:"+file), 0o600); err == nil {
		t.Error("a file is replaced")
	}
}

// Two processes follow each other, and no sender is refused between them.
func ExampleInherited_Open() {
	a, err := socket.NewAddress("tcp", "//127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	inherited := socket.Inherit()
	all, err := inherited.Open(a, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range all {
		fmt.Println(s.Addr().Network(), s.Made, s.Keep(), s.Close())
	}
	fmt.Println(inherited.Close())
	// Output:
	// tcp true <nil> <nil>
	// <nil>
}
