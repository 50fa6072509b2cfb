// Package syslog has Debian's rsyslog and syslog-ng send to the listeners of
// internal/syslog, with the snippets of deploy/rsyslog and deploy/syslog-ng.
package syslog

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/record"
	"sidecar/internal/spool"
	"sidecar/internal/syslog"
	"sidecar/test/machine"
)

const (
	sendersDir = "../../.cache/senders"
	keyDir     = "/etc/logship/"
	received   = "/var/lib/received"
	receiver   = "SYSLOG_TEST_RECEIVER"
)

// addresses are where the snippets have the senders send to.
func addresses() []string {
	return []string{"tcp://127.0.0.1:10514", "tcp://127.0.0.1:10515", "udp://127.0.0.1:10516", "tls://127.0.0.1:10517",
		"unixgram:/run/logship-log", "unix:/run/logship-stream"}
}

// TestMain is also the program that receives in the machine.
func TestMain(m *testing.M) {
	if os.Getenv(receiver) == "" {
		os.Exit(m.Run())
	}
	if err := receive(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// message is one line of what the receiver writes.
type message struct {
	Listen, Peer, Transport, Host, App, PID, Facility, Text string
	Severity                                                int8
	Age                                                     time.Duration // of the time, at the receipt
}

// printer is a sink that decodes messages and prints them.
type printer struct {
	listen string
	mu     *sync.Mutex
}

func (p printer) Append(_ context.Context, msgs []spool.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var d syslog.Decoder
	for _, m := range msgs {
		e := record.Entry{Message: m.Text, TimeUsec: m.TimeUsec, Priority: m.Priority, Host: m.Host}
		d.Decode(&e)
		line := message{p.listen, string(m.Peer), string(m.Transport), string(e.Host), string(e.Identifier), string(e.PID), string(e.Facility),
			string(e.Message), e.Priority, time.Duration(m.TimeUsec-e.TimeUsec) * time.Microsecond}
		if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func (p printer) Gather(ctx context.Context, msgs []spool.Message) error { return p.Append(ctx, msgs) }

func receive() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cert, err := tls.LoadX509KeyPair(keyDir+"cert.pem", keyDir+"key.pem")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(keyDir + "ca.pem")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, address := range addresses() {
		l, err := syslog.Listen(syslog.Options{Listen: address, Sink: printer{address, &mu}, Log: slog.Default(),
			TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}})
		if err != nil {
			return err
		}
		all.Go(func() {
			if err := l.Run(ctx); err != nil {
				slog.Error("listener ended", "err", err)
			}
		})
	}
	fmt.Println("{}") // it listens
	all.Wait()
	return nil
}

// TestSenders: each message comes once by each way, with all that its header says,
// and the Winston document's prefix at its start.
func TestSenders(t *testing.T) {
	m := boot(t)
	bodies := []string{
		`_jsonrc:{"level":"info","message":"Zażółć gęślą jaźń"}`,
		`    at Module._compile (node:internal/modules/cjs/loader:1521:14)`,
		`_jsonrc:{"body":"` + strings.Repeat("x", 7000) + `"}`,
	}
	want := map[string][]string{}
	for sender, on := range map[string][]string{"rsyslog": addresses()[:5], "syslog-ng": addresses()} {
		for _, body := range bodies {
			m.Do(t, "logger", "--socket", "/run/"+sender, "--size", "16KiB", "--tag", sender+"-app", "--id=4312", "--priority", "user.warning", "--", body)
		}
		for _, address := range on {
			want[sender+" to "+address] = bodies
		}
	}
	got := map[string][]string{}
	for _, msg := range await(t, m, len(bodies)*(5+6)) {
		sender := strings.TrimSuffix(msg.App, "-app")
		key := sender + " to " + msg.Listen
		got[key] = append(got[key], msg.Text)
		if msg.Host != "web-03" || msg.PID != "4312" || msg.Facility != "1" || msg.Severity != 4 || msg.Age < -time.Minute || msg.Age > time.Minute {
			t.Errorf("%s: %+v", key, msg)
		}
	}
	for key, texts := range want {
		if !slices.Equal(got[key], texts) {
			t.Errorf("%s: got %.200q", key, got[key])
		}
	}
}

// boot returns a machine in which the receiver and both senders run.
func boot(t *testing.T) *machine.Machine {
	t.Helper()
	m := bootReceiver(t)
	ctx := t.Context()
	must(t, m.WriteFile(ctx, "/etc/rsyslog-test.conf", []byte(`global(workDirectory="/var/lib")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="/run/rsyslog")
`+snippets(t, "rsyslog")), 0o644))
	must(t, m.WriteFile(ctx, "/etc/syslog-ng-test.conf", []byte("@version: 3.38\nsource s_src { unix-dgram(\"/run/syslog-ng\"); };\n"+snippets(t, "syslog-ng")), 0o644))
	startRsyslog(t, m, "/run/rsyslog")
	m.Do(t, "systemd-run", "--quiet", "--unit=syslog-ng-test", "--setenv=LD_LIBRARY_PATH=/usr/lib/syslog-ng", "syslog-ng", "-F",
		"--no-caps", "-f", "/etc/syslog-ng-test.conf", "-R", "/run/syslog-ng.persist", "-c", "/run/syslog-ng.ctl", "-p", "/run/syslog-ng.pid")
	awaitSocket(t, m, "/run/syslog-ng")
	return m
}

// startRsyslog starts Debian's rsyslogd with /etc/rsyslog-test.conf, which has an input
// of this socket.
func startRsyslog(t *testing.T, m *machine.Machine, socket string) {
	t.Helper()
	m.Do(t, "systemd-run", "--quiet", "--unit=rsyslog-test", "rsyslogd", "-n", "-f", "/etc/rsyslog-test.conf", "-i", "/run/rsyslog.pid")
	awaitSocket(t, m, socket)
}

func awaitSocket(t *testing.T, m *machine.Machine, socket string) {
	t.Helper()
	m.Await(t, 40*time.Second, func() (bool, string) {
		_, _, err := m.Run(t.Context(), "test", "-S", socket)
		return err == nil, socket + " is not there"
	})
}

// bootReceiver returns a machine in which the receiver runs, and which has the senders.
func bootReceiver(t *testing.T) *machine.Machine {
	t.Helper()
	m := machine.Boot(t, machine.Options{Hostname: "web-03", Diagnose: "journalctl -n 60 --no-pager; cut -c 1-300 " + received})
	ctx := t.Context()
	must(t, m.CopyTree(ctx, sendersDir, "/"))
	self, err := os.Executable()
	must(t, err)
	must(t, m.CopyIn(ctx, self, "/opt/receiver", 0o755))
	for name, data := range certificate(t) {
		must(t, m.WriteFile(ctx, keyDir+name, data, 0o644))
	}
	m.Do(t, "systemd-run", "--quiet", "--unit=receiver", "--setenv="+receiver+"=1", "--property=StandardOutput=append:"+received, "/opt/receiver")
	await(t, m, 0)
	return m
}

// snippets returns all of deploy for a sender.
func snippets(t *testing.T, sender string) string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/" + sender + "/*.conf")
	if err != nil || len(files) != 5 {
		t.Fatalf("%q, %v", files, err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		all.Write(text)
	}
	return all.String()
}

// certificate returns the files of one certificate that both sides use.
func certificate(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return map[string][]byte{"ca.pem": cert, "cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})}
}

// await returns the messages that the receiver has written, when it listens and
// there are n of them.
func await(t *testing.T, m *machine.Machine, n int) []message {
	t.Helper()
	var all []message
	m.Await(t, 40*time.Second, func() (bool, string) {
		data, _ := m.ReadFile(t.Context(), received)
		all = nil
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var msg message
			if err := json.Unmarshal(lines.Bytes(), &msg); err == nil {
				all = append(all, msg)
			}
		}
		return len(all) > n, strconv.Itoa(len(all)-1) + " of " + strconv.Itoa(n) + " messages came"
	})
	return all[1:]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
