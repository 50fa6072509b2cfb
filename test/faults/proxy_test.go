package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// beginNginx puts an nginx in front of the receiver, with further settings of its
// server, and makes logship ship to it. It knows nothing of TLS and GELF.
func (s *setup) beginNginx(t *testing.T, settings string) {
	t.Helper()
	const conf = `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr notice;
events {}
stream {
	server {
		listen %[2]s;
		proxy_pass %[3]s;
		%[4]s
	}
}
`
	address := s.net + ".5:12201"
	path := filepath.Join(s.dir, "nginx.conf")
	must(t, os.WriteFile(path, fmt.Appendf(nil, conf, s.dir, address, s.receiverAddress(), settings), 0o600))
	nginx := begin(t, "nginx", "-p", s.dir, "-e", "stderr", "-c", path)
	nginx.said(t, "OS: Linux")
	s.url = "gelf+tcp://" + address
}

// TestRow17Proxy: a proxy that passes the half-close on confirms when the receiver does; if
// it makes an orderly end of the receiver's death, a replay window loses nothing. One
// that answers it itself, which is nginx's default, is found out when the receiver
// behind it is down; from then on what it took is kept long enough to outlive that.
func TestRow17Proxy(t *testing.T) {
	needNamespaces(t, "nginx")
	t.Run("passes it on", func(t *testing.T) {
		t.Parallel()
		s := newSetup(t, 17)
		s.set = append(s.set, "output.confirm=half_close")
		s.beginNginx(t, "proxy_half_close on;")
		s.begin(t, 2000)
		for range rounds(2) {
			s.pauseBehindProxy(t)
		}
		s.verdict(t)
	})
	t.Run("passes it on, the receiver dies", func(t *testing.T) {
		t.Parallel()
		s := newSetup(t, 17)
		s.kept = 30 * time.Second
		s.set = append(s.set, "output.confirm=half_close", "output.replay_window=30s")
		s.beginNginx(t, "proxy_half_close on;")
		s.begin(t, 2000)
		for range rounds(2) {
			s.pauseThenKill(t)
		}
		s.verdict(t)
	})
	t.Run("answers it itself", func(t *testing.T) {
		t.Parallel()
		s := newSetup(t, 17)
		s.beginNginx(t, "")
		s.begin(t, 1000)
		s.load.more(t, 2000)
		s.load.pause()
		s.await(t, func() (bool, string) {
			_, accepted, _ := s.load.counts()
			return s.missing(accepted) == 0 && s.metric(t, `logship_ack_mode{mode="half_close"}`) == 1, "not all has come and is confirmed"
		})
		s.receiver.kill()
		s.faults++
		s.logship.said(t, "a proxy or load balancer accepts connections.*ack_mode=kernel")
		s.beginReceiver(t)
		s.load.resume()
		s.recover(t, 5*time.Second)
		s.kept = 30 * time.Second // KernelWindow
		for range rounds(2) {
			s.pauseThenKill(t)
		}
		if s.metric(t, `logship_ack_mode{mode="kernel"}`) != 1 {
			t.Error("the metric does not tell what confirms")
		}
		s.verdict(t)
	})
}

// pauseBehindProxy stops the receiver until there was a cut, which must not be confirmed
// before it goes on. It does not die: nginx makes an orderly end of the reset that comes
// then, which looks like a confirmation.
func (s *setup) pauseBehindProxy(t *testing.T) {
	t.Helper()
	s.receiver.signal(syscall.SIGSTOP)
	cuts := s.metric(t, "logship_output_cuts_total")
	until(t, patience, func() (bool, string) {
		return s.metric(t, "logship_output_cuts_total") > cuts, "logship does not ask for a confirmation"
	})
	const confirmed = "logship_output_confirmed_bytes_total"
	before := s.metric(t, confirmed)
	s.load.more(t, s.rate)
	if now := s.metric(t, confirmed); now != before {
		t.Errorf("%v bytes are confirmed that the receiver has not read", now-before)
	}
	s.receiver.signal(syscall.SIGCONT)
	s.recover(t, 5*time.Second)
}

// pauseThenKill stops the receiver while messages go to it, until there was a cut,
// and kills it, with what it has not read.
func (s *setup) pauseThenKill(t *testing.T) {
	t.Helper()
	s.receiver.signal(syscall.SIGSTOP)
	cuts := s.metric(t, "logship_output_cuts_total")
	until(t, patience, func() (bool, string) {
		return s.metric(t, "logship_output_cuts_total") > cuts, "logship does not ask for a confirmation"
	})
	s.receiver.kill()
	s.faults++
	s.beginReceiver(t)
	s.recover(t, 5*time.Second)
}
