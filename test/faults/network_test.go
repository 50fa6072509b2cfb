package faults

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// firewall lets packets from and to an address be dropped when they arrive, until end is
// called: which ones says a condition of nft(8), "" for all.
func firewall(t *testing.T, address, condition string) (end func()) {
	t.Helper()
	table := "faults_" + strings.ReplaceAll(address, ".", "_")
	rules := fmt.Sprintf("table ip %s {\n chain arriving {\n  type filter hook input priority 0;\n  ip saddr %s %s drop\n  ip daddr %s %s drop\n }\n}\n",
		table, address, condition, address, condition)
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	return func() { command(t, "nft", "delete", "table", "ip", table) }
}

// TestRow10ReceiverKilled: what a receiver had read and not confirmed is sent to the
// next one.
func TestRow10ReceiverKilled(t *testing.T) {
	t.Parallel()
	s := newSetup(t, 10)
	s.begin(t, 2000)
	for range rounds(3) {
		s.load.more(t, 1000)
		s.receiver.kill()
		s.faults++
		s.load.more(t, 500)
		s.beginReceiver(t)
		s.recover(t, 5*time.Second)
	}
	s.verdict(t)
}

// TestRow10WithoutConfirmation: the same test finds what is lost behind somebody who says
// in the receiver's place that all has been read.
func TestRow10WithoutConfirmation(t *testing.T) {
	t.Parallel()
	s := newSetup(t, 10)
	s.url = "gelf+tcp://" + s.answerFIN(t)
	s.begin(t, 2000)
	s.receiver.signal(syscall.SIGSTOP)
	cuts := s.metric(t, "logship_output_cuts_total")
	until(t, patience, func() (bool, string) {
		return s.metric(t, "logship_output_cuts_total") > cuts+1, "logship does not ask for a confirmation"
	})
	s.receiver.kill()
	s.beginReceiver(t)
	s.recover(t, 5*time.Second)
	s.load.stop()
	_, accepted, _ := s.load.counts()
	s.stopLogship(t)
	s.arrivals.load(t)
	if n := s.missing(accepted); n == 0 {
		t.Error("nothing is lost")
	} else {
		t.Logf("%d of %d are lost", n, accepted)
	}
}

// answerFIN starts a proxy in front of the receiver that answers an end of stream at
// once, whatever the receiver has read. It returns its address.
func (s *setup) answerFIN(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", s.net+".5:12201")
	must(t, err)
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.relay(ctx, c) })
		}
	})
	return l.Addr().String()
}

func (s *setup) relay(ctx context.Context, from net.Conn) {
	defer from.Close()
	to, err := new(net.Dialer).DialContext(ctx, "tcp", s.receiverAddress())
	if err != nil {
		return
	}
	defer to.Close()
	stop := context.AfterFunc(ctx, func() {
		from.Close()
		to.Close()
	})
	defer stop()
	_, err = io.Copy(to, from)
	if err != nil {
		_ = from.(*net.TCPConn).SetLinger(0) // the receiver has died: that it tells
		return
	}
	from.Close()
	_ = to.(*net.TCPConn).CloseWrite()
	_, _ = io.Copy(io.Discard, to)
}

// TestRow11Reset: connections are reset, by a receiver that ends with data that it has
// not read, and from outside.
func TestRow11Reset(t *testing.T) {
	needNamespaces(t, "ss")
	t.Parallel()
	s := newSetup(t, 11)
	s.begin(t, 2000)
	for range rounds(2) {
		s.load.more(t, 500)
		s.receiver.signal(syscall.SIGSTOP)
		s.load.more(t, 1000)
		s.receiver.signal(syscall.SIGTERM)
		s.receiver.signal(syscall.SIGCONT)
		<-s.receiver.done
		s.faults++
		s.beginReceiver(t)
		s.recover(t, 5*time.Second)
		s.load.more(t, 500)
		command(t, "ss", "-K", "-H", "dst", s.receiverHost(), "dport", "12201")
		s.faults++
		s.recover(t, 5*time.Second)
	}
	if n := s.metric(t, "logship_output_failures_total"); n < float64(s.faults) {
		t.Errorf("%v connections have failed of %d", n, s.faults)
	}
	s.verdict(t)
}

// TestRow12ReceiverPauses: a receiver that stands still for 10 s is not taken for dead:
// nothing is sent again. It is long enough for its window to close.
func TestRow12ReceiverPauses(t *testing.T) {
	t.Parallel()
	s := newSetup(t, 12)
	s.begin(t, 3000)
	s.receiver.signal(syscall.SIGSTOP)
	s.load.more(t, 10*s.rate)
	s.receiver.signal(syscall.SIGCONT)
	s.recover(t, time.Second)
	s.verdict(t)
}

// TestRow13ReceiverPausesThenDies: what a receiver that stands still has not read is
// sent to the next one.
func TestRow13ReceiverPausesThenDies(t *testing.T) {
	t.Parallel()
	s := newSetup(t, 13)
	s.begin(t, 2000)
	for range rounds(2) {
		s.load.more(t, 500)
		s.receiver.signal(syscall.SIGSTOP)
		s.load.more(t, 3000)
		s.receiver.kill()
		s.faults++
		s.beginReceiver(t)
		s.recover(t, 5*time.Second)
	}
	s.verdict(t)
}

// TestRow14Blackhole: nothing passes for 3 s, in which another receiver takes the place
// of the first: it knows nothing of the connections.
func TestRow14Blackhole(t *testing.T) {
	needNamespaces(t, "nft")
	t.Parallel()
	s := newSetup(t, 14)
	s.begin(t, 1000)
	for range rounds(1) {
		s.load.more(t, 500)
		end := firewall(t, s.receiverHost(), "")
		s.load.more(t, 3*s.rate)
		s.receiver.kill()
		s.faults++
		s.beginReceiver(t)
		end()
		s.recover(t, 10*time.Second)
	}
	s.verdict(t)
}

// TestRow14Silence: connections that nobody answers any more, not even with a reset, are
// given up after 30 s (TCP_USER_TIMEOUT). New ones pass.
func TestRow14Silence(t *testing.T) {
	needNamespaces(t, "nft", "ss")
	t.Parallel()
	s := newSetup(t, 14)
	s.begin(t, 200)
	out, err := exec.Command("ss", "-H", "-t", "-n", "state", "established", "dst", s.receiverHost()).Output()
	must(t, err)
	var ports []string
	for _, m := range regexp.MustCompile(`:(\d+) +`+regexp.QuoteMeta(s.receiverHost())).FindAllSubmatch(out, -1) {
		ports = append(ports, string(m[1]))
	}
	if len(ports) == 0 {
		t.Fatalf("no connections: %s", out)
	}
	either := "{ 12201, " + strings.Join(ports, ", ") + " }"
	end := firewall(t, s.receiverHost(), "tcp sport "+either+" tcp dport "+either)
	s.faults++
	s.recover(t, 40*time.Second)
	if s.recovered < 25*time.Second {
		t.Errorf("recovered after %v: a receiver may pause as long", s.recovered)
	}
	end()
	s.verdict(t)
}

// TestRow15HalfOpen: a connection without traffic breaks, which only keep-alive can find
// out, after 30 s.
func TestRow15HalfOpen(t *testing.T) {
	needNamespaces(t, "nft")
	t.Parallel()
	s := newSetup(t, 15)
	s.begin(t, 1000)
	s.load.more(t, 500)
	s.load.pause()
	issued, _, _ := s.load.counts()
	s.await(t, func() (bool, string) {
		return s.missing(issued) == 0 && s.metric(t, "logship_spool_messages") == 0, "not everything is confirmed"
	})
	end := firewall(t, s.receiverHost(), "")
	until(t, 45*time.Second, func() (bool, string) {
		return s.metric(t, "logship_output_connected") == 0, "the broken connection is not noticed"
	})
	s.receiver.kill()
	s.beginReceiver(t)
	end()
	s.load.resume()
	s.recover(t, 10*time.Second)
	s.verdict(t)
}

// TestRow16LossAndRate: 5 % of the packets get lost, and the line carries 20 Mbit/s.
// The others wait meanwhile: it is the loopback of all.
func TestRow16LossAndRate(t *testing.T) {
	needNamespaces(t, "nft", "tc", "ip")
	s := newSetup(t, 16)
	command(t, "ip", "link", "set", "lo", "mtu", "1500", "gso_max_segs", "1")
	defer command(t, "ip", "link", "set", "lo", "mtu", "65536", "gso_max_segs", "65535")
	command(t, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "20mbit", "burst", "32kb", "latency", "400ms")
	defer command(t, "tc", "qdisc", "del", "dev", "lo", "root")
	s.begin(t, 1500)
	end := firewall(t, s.receiverHost(), "numgen random mod 100 < 5")
	s.load.more(t, 6000)
	end()
	s.recover(t, 5*time.Second)
	s.verdict(t)
}

// TestRow21Names: the receiver's name does not resolve, or nobody answers, or it gets
// another address.
func TestRow21Names(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	s := newSetup(t, 21)
	names := serveNames(t, s)
	s.url = "gelf+tcp://graylog.test:12201"
	s.begin(t, 1000)
	for _, state := range []string{"unknown", "silent"} {
		s.load.more(t, 500)
		names.state.Store(state)
		s.receiver.kill()
		s.faults++
		s.load.more(t, s.rate)
		s.beginReceiver(t)
		names.state.Store(s.receiverHost())
		s.recover(t, 7*time.Second)
	}
	old := s.receiver
	s.moved = true
	s.beginReceiver(t)
	names.state.Store(s.receiverHost())
	old.kill()
	s.faults++
	s.recover(t, 7*time.Second)
	s.verdict(t)
}

// resolver answers every question about names (RFC 1035 section 4) with the address that
// is its state, that there is no such name ("unknown"), or not ("silent").
type resolver struct{ state atomic.Value }

// serveNames starts a resolver, which this namespace uses until the test ends.
func serveNames(t *testing.T, s *setup) *resolver {
	t.Helper()
	r := new(resolver)
	r.state.Store(s.receiverHost())
	c, err := net.ListenPacket("udp", s.net+".3:53")
	must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.serve(c)
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
	conf := filepath.Join(s.dir, "resolv.conf")
	must(t, os.WriteFile(conf, []byte("nameserver "+s.net+".3\noptions timeout:1 attempts:1\n"), 0o644))
	must(t, unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH)) })
	return r
}

func (r *resolver) serve(c net.PacketConn) {
	const header, answered, noName, typeA = 12, 0x8400, 3, 1
	b := make([]byte, 512)
	for {
		n, peer, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		end := header
		for end < n && b[end] != 0 {
			end += 1 + int(b[end])
		}
		end += 5 // the root, type and class
		state := r.state.Load().(string)
		if end > n || state == "silent" {
			continue
		}
		kind := binary.BigEndian.Uint16(b[end-4:])
		reply := append([]byte(nil), b[:end]...)
		flags, answers := uint16(answered), uint16(0)
		if address, err := netip.ParseAddr(state); err != nil {
			flags |= noName
		} else if kind == typeA {
			answers = 1
			reply = append(reply, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4)
			reply = append(reply, address.AsSlice()...)
		}
		binary.BigEndian.PutUint16(reply[2:], flags)
		binary.BigEndian.PutUint16(reply[6:], answers)
		binary.BigEndian.PutUint32(reply[8:], 0) // no more sections
		_, _ = c.WriteTo(reply, peer)            // one that gave up
	}
}
