package syslog

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sidecar/internal/budget"
	"sidecar/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a sink that keeps what it gets, and can be held up.
type memory struct {
	mu      sync.Mutex
	more    chan struct{} // closed and replaced whenever there is more
	got     []spool.Message
	waiting []spool.Message // gathered
	hold    chan struct{}   // it waits for that, if it is not nil, as a spool that is full
	failure error
}

func newMemory() *memory { return &memory{more: make(chan struct{})} }

func (s *memory) Append(ctx context.Context, msgs []spool.Message) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(msgs)
	s.got, s.waiting = append(s.got, s.waiting...), nil
	close(s.more)
	s.more = make(chan struct{})
	return s.failure
}

func (s *memory) Gather(ctx context.Context, msgs []spool.Message) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(msgs)
	return nil
}

func (s *memory) wait(ctx context.Context) error {
	if s.hold == nil {
		return nil
	}
	select {
	case <-s.hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *memory) keep(msgs []spool.Message) {
	for _, m := range msgs {
		m.Text = bytes.Clone(m.Text)
		s.waiting = append(s.waiting, m)
	}
}

// await returns the messages when there are n of them.
func (s *memory) await(t *testing.T, n int) []spool.Message {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		got, more := slices.Clone(s.got), s.more
		s.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%d of %d messages came", len(got), n)
		}
	}
}

func texts(msgs []spool.Message) []string {
	var all []string
	for _, m := range msgs {
		all = append(all, string(m.Text))
	}
	return all
}

// eventually waits for what counters will say.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: it never is so", what)
		}
	}
}

// running is a listener that runs until the test ends, or stop.
type running struct {
	*Listener
	sink *memory
	stop func() error
}

func listen(t *testing.T, o Options) *running {
	t.Helper()
	sink, _ := o.Sink.(*memory)
	if o.Sink == nil {
		sink = newMemory()
		o.Sink = sink
	}
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	return &running{Listener: l, sink: sink}
}

func (r *running) start(t *testing.T) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	a := r.Addrs()[0]
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// awaitClosed returns when the other side has closed c.
func awaitClosed(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the connection to be closed", n, err)
	}
}

func TestEveryTransport(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ address, transport, peer, send string }{
		{"udp://127.0.0.1:0", "udp", "127.0.0.1", "<13>hello\n"},
		{"udp://[::1]:0", "udp", "::1", "<13>hello"},
		{"udp://:0", "udp", "127.0.0.1", "<13>hello"},
		{"tcp://127.0.0.1:0", "tcp", "127.0.0.1", "<13>hello\n"},
		{"tcp://:0", "tcp", "::1", "9 <13>hello"},
		{"unix:" + dir + "/s", "unix", "", "<13>hello\n"},
		{"unixgram:" + dir + "/d", "unixgram", "", "<13>hello\x00"},
	} {
		t.Run(c.address, func(t *testing.T) {
			r := listen(t, Options{Listen: c.address}).start(t)
			conn := r.dial(t)
			before := time.Now().UnixMicro()
			send(t, conn, c.send)
			m := r.sink.await(t, 1)[0]
			peer := string(m.Peer)
			if c.address == "udp://:0" || c.address == "tcp://:0" {
				peer = strings.Replace(strings.Replace(peer, "::1", "", 1), "127.0.0.1", "", 1)
				c.peer = ""
			}
			if string(m.Text) != "<13>hello" || peer != c.peer || string(m.Transport) != c.transport || string(m.Source) != "syslog" || string(m.Host) != string(m.Peer) || m.Priority != -1 || m.TimeUsec < before || m.TimeUsec > time.Now().UnixMicro() {
				t.Errorf("%q from %q by %q at %d", m.Text, m.Peer, m.Transport, m.TimeUsec)
			}
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			eventually(t, "counted", func() bool { s := r.Stats(); return s.Messages == 1 && s.Bytes == 9 })
			if path, ok := strings.CutPrefix(c.address, "unix:"); ok {
				if _, err := os.Lstat(path); err == nil {
					t.Error("the socket is still there")
				}
			}
		})
	}
}

// TestCorpusStreams: what rsyslog and syslog-ng send comes out whole and in
// order, whatever the pieces are.
func TestCorpusStreams(t *testing.T) {
	for _, file := range []string{"frames-dev.lf.bin", "frames-dev.octet.bin"} {
		stream, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := cut(Auto, 64<<10, stream, len(stream))
		r := listen(t, Options{Listen: "tcp://127.0.0.1:0", Gather: -1}).start(t)
		c := r.dial(t)
		for piece := range slices.Chunk(stream, 777) {
			send(t, c, string(piece))
		}
		if got := texts(r.sink.await(t, len(want))); !slices.Equal(got, want) {
			t.Errorf("%s: got %q", file, got)
		}
	}
}

// TestStopKeepsWhatCame: what a sender has written before the end is stored, over
// streams and datagrams, although the reader was not at it yet.
func TestStopKeepsWhatCame(t *testing.T) {
	dir := t.TempDir()
	for _, address := range []string{"tcp://127.0.0.1:0", "unix:" + dir + "/s", "udp://127.0.0.1:0", "unixgram:" + dir + "/d"} {
		t.Run(address, func(t *testing.T) {
			r := listen(t, Options{Listen: address, Gather: time.Hour})
			r.start(t)
			c := r.dial(t)
			send(t, c, "<13>first\n")
			r.sink.await(t, 1) // and now the reader waits for an hour
			const n = 5
			for i := range n {
				send(t, c, fmt.Sprintf("<13>%d\n", i))
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if got := texts(r.sink.await(t, 1)); len(got) != n+1 || got[n] != "<13>4" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestStopDoesNotWaitForASenderThatNeverRests: what it sends meanwhile is stored,
// until half of StopTimeout has passed.
func TestStopDoesNotWaitForASenderThatNeverRests(t *testing.T) {
	r := listen(t, Options{Listen: "tcp://127.0.0.1:0", StopTimeout: 100 * time.Millisecond}).start(t)
	c := r.dial(t)
	var sender sync.WaitGroup
	sender.Go(func() {
		for line := bytes.Repeat([]byte("<13>x\n"), 1000); ; {
			if _, err := c.Write(line); err != nil {
				return
			}
		}
	})
	r.sink.await(t, 10)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	c.Close()
	sender.Wait()
}

// TestASinkThatFailsEndsTheListener, on each kind of socket.
func TestASinkThatFailsEndsTheListener(t *testing.T) {
	broken := errors.New("spool is closed")
	for _, address := range []string{"tcp://127.0.0.1:0", "udp://127.0.0.1:0"} {
		sink := newMemory()
		sink.failure = broken
		r := listen(t, Options{Listen: address, Sink: sink})
		c := r.dial(t)
		send(t, c, "<13>x\n")
		if err := r.Run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestAStuckSinkDoesNotKeepTheProcess: after StopTimeout Run returns, and says so.
func TestAStuckSinkDoesNotKeepTheProcess(t *testing.T) {
	for _, address := range []string{"tcp://127.0.0.1:0", "udp://127.0.0.1:0"} {
		sink := newMemory()
		sink.hold = make(chan struct{})
		r := listen(t, Options{Listen: address, Sink: sink, StopTimeout: 50 * time.Millisecond}).start(t)
		send(t, r.dial(t), "<13>x\n")
		eventually(t, "read", func() bool { return address[0] == 'u' || r.Stats().Connections == 1 })
		if err := r.stop(); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestLimitsOfConnections(t *testing.T) {
	r := listen(t, Options{Listen: "tcp://:0", MaxConnections: 3, MaxConnectionsPerAddress: 2}).start(t)
	_, port, _ := net.SplitHostPort(r.Addrs()[0].String())
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp4", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := dial("127.0.0.1")
	dial("127.0.0.1")
	eventually(t, "two connections", func() bool { return r.Stats().Connections == 2 })
	awaitClosed(t, dial("127.0.0.1"))
	dial("127.0.0.2")
	eventually(t, "three connections", func() bool { return r.Stats().Connections == 3 })
	awaitClosed(t, dial("127.0.0.3"))
	first.Close()
	eventually(t, "room again", func() bool { return r.Stats().Connections == 2 })
	send(t, dial("127.0.0.3"), "<13>x\n")
	r.sink.await(t, 1)
	if s := r.Stats(); s.RefusedAddress != 1 || s.RefusedTotal != 1 || s.Accepted != 6 {
		t.Errorf("%+v", s)
	}
}

// TestTimeouts: who is silent, idle or slow loses the connection, not the messages.
func TestTimeouts(t *testing.T) {
	const soon = 30 * time.Millisecond
	for _, c := range []struct {
		name    string
		o       Options
		send    string
		want    []string
		timeout uint64
	}{
		{"silent", Options{FirstByteTimeout: soon}, "", nil, 1},
		{"idle", Options{IdleTimeout: soon}, "<13>x\n", []string{"<13>x"}, 1},
		{"line without end", Options{SlowTimeout: soon}, "<13>x\n<13>y", []string{"<13>x", "<13>y"}, 1},
		{"count that lies", Options{SlowTimeout: soon}, "6 <13>xy100 <13>z", []string{"<13>xy", "<13>z"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Listen = "tcp://127.0.0.1:0"
			r := listen(t, c.o).start(t)
			conn := r.dial(t)
			send(t, conn, c.send)
			awaitClosed(t, conn)
			if got := texts(r.sink.await(t, len(c.want))); !slices.Equal(got, c.want) {
				t.Errorf("got %q", got)
			}
			eventually(t, "counted", func() bool { return r.Stats().TimedOut == c.timeout })
		})
	}
}

// TestSlowSendersWithALongMessage have as much time as they need while enough comes,
// and lose the connection when less does.
func TestSlowSendersWithALongMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := Options{Sink: newMemory()}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		defer client.Close()
		l := &Listener{o: o}
		s := &stream{l: l, conn: server, frames: newFrames(Auto, o.MaxMessageBytes, o.Budget)}
		ended := make(chan error, 1)
		go func() { ended <- s.run(t.Context(), t.Context()); server.Close() }()
		begin := time.Now()
		for range 600 { // ten minutes of 200 octets a second
			send(t, client, strings.Repeat("x", 200))
			<-time.After(time.Second)
		}
		send(t, client, "\n")
		o.Sink.(*memory).await(t, 1) // cut at 64 KiB
		for err == nil {             // and now one octet a second
			_, err = client.Write([]byte("y"))
			<-time.After(time.Second)
		}
		if d := time.Since(begin); d < 629*time.Second || d > 635*time.Second || l.Stats().TimedOut != 1 {
			t.Errorf("ended after %v: %+v", d, l.Stats())
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestRow30GarbageHarmsNobodyElse: begun lines, noise, large counts, a TLS hello.
func TestRow30GarbageHarmsNobodyElse(t *testing.T) {
	r := listen(t, Options{Listen: "tcp://127.0.0.1:0", MaxConnections: 300, MaxConnectionsPerAddress: 300}).start(t)
	garbage := make([]byte, 100_000)
	rand.Read(garbage)
	for i := range 50 {
		c := r.dial(t)
		switch i % 5 {
		case 0:
			send(t, c, "x")
		case 1:
			send(t, c, string(garbage))
		case 2:
			send(t, c, "16000000 <1>")
		case 3:
			send(t, c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
		}
	}
	c := r.dial(t)
	send(t, c, "<13>the one that counts\n")
	eventually(t, "the good message", func() bool {
		r.sink.mu.Lock()
		defer r.sink.mu.Unlock()
		return slices.Contains(texts(r.sink.got), "<13>the one that counts")
	})
}

// TestRow30AFloodOfConnections: of 10,000 connections 32 are served, the others closed,
// and the memory stays that of 32.
func TestRow30AFloodOfConnections(t *testing.T) {
	r := listen(t, Options{Listen: "tcp://127.0.0.1:0"}).start(t)
	kept := 0
	var open []net.Conn
	for range 10_000 {
		c, err := net.Dial("tcp", r.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		if kept++; kept <= 40 {
			open = append(open, c)
			continue
		}
		awaitClosed(t, c)
		c.Close()
	}
	if s := r.Stats(); s.Connections != 32 || s.RefusedAddress != 10_000-32 {
		t.Errorf("%+v", s)
	}
	for _, c := range open {
		c.Close()
	}
}

// TestRow25OutOfDescriptors: connections wait in the kernel until there are some again.
func TestRow25OutOfDescriptors(t *testing.T) {
	r := listen(t, Options{Listen: "tcp://127.0.0.1:0"})
	conns := []net.Conn{r.dial(t), r.dial(t)}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	none := limit
	none.Cur = uint64(next)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	restore := func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) }
	defer restore()
	r.start(t)
	eventually(t, "accept fails", func() bool { return r.Stats().AcceptErrors > 1 })
	restore()
	for _, c := range conns {
		send(t, c, "<13>x\n")
	}
	r.sink.await(t, 2)

	// Some are left to the spool and the output.
	few := limit
	few.Cur = uint64(next + 2 + spareDescriptors)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	crowd := make([]net.Conn, 4)
	for i := range crowd {
		crowd[i] = r.dial(t)
	}
	eventually(t, "connections are refused", func() bool { return r.Stats().RefusedTotal > 0 })
	if s := r.Stats(); s.RefusedAddress > 0 {
		t.Errorf("%+v", s)
	}
	send(t, conns[0], "<13>y\n")
	r.sink.await(t, 3)
}

// certificates returns the configurations of a server and of a client that trust
// each other.
func certificates(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	certs := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &tls.Config{Certificates: certs, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, &tls.Config{Certificates: certs, RootCAs: pool}
}

func TestMutualTLS(t *testing.T) {
	server, client := certificates(t)
	hasty := listen(t, Options{Listen: "tls://127.0.0.1:0", TLS: server, HandshakeTimeout: 20 * time.Millisecond}).start(t)
	awaitClosed(t, hasty.dial(t)) // no handshake at all
	eventually(t, "counted", func() bool { return hasty.Stats().HandshakesFailed == 1 })
	r := listen(t, Options{Listen: "tls://127.0.0.1:0", TLS: server}).start(t)
	stranger := tls.Client(r.dial(t), &tls.Config{RootCAs: client.RootCAs, ServerName: "127.0.0.1"})
	if err := stranger.Handshake(); err == nil {
		awaitClosed(t, stranger) // TLS 1.3: the server looks at the certificate after the client is done
	}
	c := tls.Client(r.dial(t), &tls.Config{RootCAs: client.RootCAs, Certificates: client.Certificates, ServerName: "127.0.0.1"})
	send(t, c, "9 <13>hello9 <13>world")
	got := r.sink.await(t, 2)
	if string(got[0].Transport) != "tls" || string(got[1].Text) != "<13>world" {
		t.Errorf("got %+v", got)
	}
	c.Close()
	eventually(t, "counted", func() bool { return r.Stats().HandshakesFailed == 1 })
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := listen(t, Options{Listen: "unix:" + dir + "/taken"})
	defer taken.Close()
	for address, want := range map[string]string{
		"tcp://127.0.0.1":          "want HOST:PORT",
		"tcp://127.0.0.1:1/path":   "want HOST:PORT",
		"http://127.0.0.1:1":       "want udp, tcp, tls, unix, unixgram or systemd",
		"unix:relative":            "not absolute",
		"systemd:":                 "no name",
		"systemd:absent":           "systemd passed no socket of this name",
		"tls://127.0.0.1:0":        "no certificate",
		"unix:" + dir + "/taken":   "another program listens there",
		"unix:" + file:             "address already in use",
		"unixgram:" + dir + "/-/x": "no such file",
		"udp://192.0.2.1:9":        "cannot assign",
	} {
		l, err := Listen(Options{Listen: address})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
		if err == nil {
			l.Close()
		}
	}
	if _, err := Listen(Options{Listen: "udp://127.0.0.1:0", MaxMessageBytes: 1<<20 + 1}); err == nil {
		t.Error("no error for a message limit above 1 MiB")
	}
}

// TestTheEndConfirms: a sender that ends its stream and then sees the end in order knows
// that everything is stored. Every other end is a reset.
func TestTheEndConfirms(t *testing.T) {
	server, client := certificates(t)
	client.ServerName = "127.0.0.1"
	for _, network := range []string{"tcp", "tls"} {
		dial := func(r *running) net.Conn {
			c := r.dial(t)
			if network == "tls" {
				c = tls.Client(c, client)
			}
			send(t, c, "<13>x\n")
			return c
		}
		end := func(c net.Conn) error {
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				return err
			}
			_, err := io.ReadAll(c)
			return err
		}
		o := Options{Listen: network + "://127.0.0.1:0", TLS: server}
		t.Run(network+" stored", func(t *testing.T) {
			r := listen(t, o).start(t)
			if err := end(dial(r)); err != nil {
				t.Errorf("the end is %v", err)
			}
			r.sink.mu.Lock()
			defer r.sink.mu.Unlock()
			if got := texts(r.sink.got); !slices.Equal(got, []string{"<13>x"}) {
				t.Errorf("stored %q", got)
			}
		})
		t.Run(network+" restart", func(t *testing.T) {
			r := listen(t, o).start(t)
			c := dial(r)
			r.sink.await(t, 1)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the end is %v", err)
			}
		})
		t.Run(network+" not stored", func(t *testing.T) {
			broken := o
			sink := newMemory()
			sink.failure, broken.Sink = errors.New("disk full"), sink
			if err := end(dial(listen(t, broken).start(t))); err == nil {
				t.Error("the end is in order")
			}
		})
	}
}

// TestStreamsShareMemory: of many streams with long messages a few at a time have memory,
// and all come to an end; nothing is lost.
func TestStreamsShareMemory(t *testing.T) {
	const streams, messages, size, most = 20, 30, 60_000, 1 << 20
	sink := newMemory()
	sink.hold = make(chan struct{})
	b := budget.New(most)
	r := listen(t, Options{Listen: "tcp://127.0.0.1:0", Sink: sink, Budget: b}).start(t)
	var senders sync.WaitGroup
	for i := range streams {
		c := r.dial(t)
		senders.Go(func() {
			for n := range messages {
				text := fmt.Sprintf("<14>%d %d %s\n", i, n, strings.Repeat("x", size))
				if _, err := io.WriteString(c, text); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, "streams wait", func() bool { return b.Stats().Waiting >= streams/2 })
	if n := b.Stats().Claimed; n > most/2 {
		t.Errorf("streams have %d bytes", n)
	}
	close(sink.hold)
	sink.await(t, streams*messages)
	senders.Wait()
	eventually(t, "the memory is given back", func() bool { return b.Stats().Claimed == 0 })
}

// TestWhoIsSlowDoesNotKeepMemoryFromOthers: with memory that others wait for, a message
// has SlowTimeout, no more.
func TestWhoIsSlowDoesNotKeepMemoryFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, err := Options{Sink: newMemory(), Budget: budget.New(300_000)}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		l := &Listener{o: o}
		serve := func() net.Conn {
			client, server := net.Pipe()
			s := &stream{l: l, conn: server, frames: newFrames(Auto, o.MaxMessageBytes, o.Budget)}
			go func() {
				if err := s.run(t.Context(), t.Context()); err != nil {
					t.Error(err)
				}
				server.Close()
			}()
			return client
		}
		slow, other := serve(), serve()
		defer slow.Close()
		defer other.Close()
		send(t, slow, strings.Repeat("x", 5000))
		begin := time.Now()
		var drip sync.WaitGroup
		drip.Go(func() {
			for err == nil { // more than SlowBytes in SlowTimeout
				_, err = slow.Write(bytes.Repeat([]byte("y"), 200))
				<-time.After(time.Second)
			}
		})
		send(t, other, strings.Repeat("z", 10_000)+"\n")
		synctest.Wait()
		if d := time.Since(begin); d > 31*time.Second || l.Stats().TimedOut != 1 {
			t.Errorf("another stream waited for %v: %+v", d, l.Stats())
		}
		o.Sink.(*memory).await(t, 2)
		drip.Wait()
	})
}
