package output_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// keys is a certificate authority that is its only certificate, for both ends.
type keys struct {
	cert tls.Certificate
	pool *x509.CertPool
}

func newKeys(t *testing.T) keys {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "graylog"}, DNSNames: []string{"graylog.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return keys{cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool: pool}
}

func (k keys) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{k.cert}}
}

func (k keys) client() *tls.Config {
	return &tls.Config{RootCAs: k.pool, ServerName: "graylog.example", MinVersion: tls.VersionTLS13}
}

// always returns what makes conf the configuration of every connection.
func always(conf *tls.Config) func() (*tls.Config, error) {
	return func() (*tls.Config, error) { return conf, nil }
}

func TestTLS(t *testing.T) {
	k := newKeys(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server, client := k.server(), k.client()
		server.MaxVersion, client.MinVersion = version, version
		in, log := start(t, gelftest.Options{TLS: server})
		out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), TLS: always(client)})
		for i := range 10 {
			send(t, out, frames(i*300, (i+1)*300))
			cut(t, out, uint64(i+1))
			wantConfirmed(t, out, uint64(i+1))
		}
		lastCut(t, out, 11)
		wantConfirmed(t, out, 11)
		wantNumbers(t, log, 3000)
	}
}

// The connection is so short that the receiver's session tickets may still be
// on their way at the half-close.
func TestTLSShortConnections(t *testing.T) {
	k := newKeys(t)
	in, _ := start(t, gelftest.Options{TLS: k.server()})
	for range 50 {
		out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), TLS: always(k.client())})
		send(t, out, frames(0, 1))
		lastCut(t, out, 1)
		wantConfirmed(t, out, 1)
		out.Abort()
	}
}

func TestTLSClientCertificate(t *testing.T) {
	k := newKeys(t)
	server := k.server()
	server.ClientAuth, server.ClientCAs = tls.RequireAnyClientCert, k.pool
	in, log := start(t, gelftest.Options{TLS: server})

	without := output.NewTCP(output.TCPOptions{Address: in.Addr("tcp"), TLS: always(k.client())})
	defer without.Abort()
	// With TLS 1.3 the client learns it after its side of the handshake.
	if err := without.Connect(within(t)); err == nil {
		e := event(t, without)
		if e.Err == nil || !strings.Contains(e.Err.Error(), "certificate required") || !needsSomebody(e.Err) {
			t.Errorf("got event %+v", e)
		}
	}

	client := k.client()
	client.Certificates = []tls.Certificate{k.cert}
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), TLS: always(client)})
	send(t, out, frames(0, 1))
	lastCut(t, out, 1)
	wantConfirmed(t, out, 1)
	wantNumbers(t, log, 1)
}

// needsSomebody reports whether err says that it will not pass by itself.
func needsSomebody(err error) bool {
	held := new(output.Held)
	return errors.As(err, &held) && held.Operator
}

func TestTLSHandshakeErrors(t *testing.T) {
	k := newKeys(t)
	for _, tt := range []struct {
		name   string
		change func(server, client *tls.Config)
		want   string
	}{
		{"wrong name", func(_, c *tls.Config) { c.ServerName = "other.example" }, "certificate is valid for graylog.example, not other.example"},
		{"unknown authority", func(_, c *tls.Config) { c.RootCAs = x509.NewCertPool() }, "certificate signed by unknown authority"},
		{"TLS 1.2", func(s, _ *tls.Config) { s.MaxVersion = tls.VersionTLS12 }, "protocol version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := k.server(), k.client()
			tt.change(server, client)
			in, log := start(t, gelftest.Options{TLS: server})
			out := output.NewTCP(output.TCPOptions{Address: in.Addr("tcp"), TLS: always(client)})
			defer out.Abort()
			err := out.Connect(within(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "TLS handshake with "+in.Addr("tcp")) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if certificate := strings.Contains(tt.want, "certificate"); needsSomebody(err) != certificate {
				t.Errorf("%v: somebody has to replace a certificate: %v", err, !certificate)
			}
			if n := len(log.Messages()) + len(log.Others()); n != 0 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

func TestTLSHandshakeTimesOut(t *testing.T) {
	in, _ := start(t, gelftest.Options{}) // takes the handshake for a frame and waits for its end
	out := output.NewTCP(output.TCPOptions{Address: in.Addr("tcp"), TLS: always(newKeys(t).client()), DialTimeout: 50 * time.Millisecond})
	defer out.Abort()
	in.Stall()
	if err := out.Connect(within(t)); err == nil {
		t.Error("connected without a handshake")
	}
}

func TestTLSFaultsFail(t *testing.T) {
	k := newKeys(t)
	for name, fault := range map[string]func(*gelftest.Input){
		"EOF": (*gelftest.Input).CloseNow, "hang up": (*gelftest.Input).HangUp, "reset": (*gelftest.Input).Reset,
	} {
		t.Run(name, func(t *testing.T) {
			in, log := start(t, gelftest.Options{TLS: k.server()})
			out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), TLS: always(k.client())})
			send(t, out, frames(0, 10))
			if err := log.WaitFor(within(t), 10); err != nil {
				t.Fatal(err)
			}
			fault(in)
			wantFailed(t, out, "")
			if err := out.Send(within(t), frames(10, 11)); err == nil {
				t.Error("Send on a connection that has ended succeeds")
			}
		})
	}
}

func TestTLSStallLosesNothing(t *testing.T) {
	k := newKeys(t)
	in, log := start(t, gelftest.Options{TLS: k.server()})
	out := connect(t, output.TCPOptions{Address: in.Addr("tcp"), TLS: always(k.client())})
	in.Stall()
	time.AfterFunc(100*time.Millisecond, in.Resume)
	const n = 60_000
	for i := 0; i < n; i += 1000 {
		send(t, out, frames(i, i+1000))
	}
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	wantNumbers(t, log, n)
}

// A stream that ends inside a TLS record is truncated, whatever was read before;
// one that ends between records without close_notify is what Java's TLS 1.3 gives.
func TestTLSEndWithoutCloseNotify(t *testing.T) {
	for _, tt := range []struct {
		name string
		last []byte // after our close_notify
		want output.EventKind
	}{
		{"between records", nil, output.Confirmed},
		{"inside a record", []byte{23, 3, 3, 0, 100, 1, 2, 3}, output.Failed},
		{"inside a header", []byte{23, 3}, output.Failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKeys(t)
			ln, err := net.Listen("tcp", loopback)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			served := make(chan error, 1)
			go func() { served <- serveAndCut(ln, k.server(), tt.last) }()
			out := connect(t, output.TCPOptions{Address: ln.Addr().String(), TLS: always(k.client())})
			send(t, out, frames(0, 1))
			lastCut(t, out, 1)
			want(t, out, tt.want)
			if err := <-served; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// serveAndCut reads a TLS connection to its end, writes last below TLS and closes.
func serveAndCut(ln net.Listener, conf *tls.Config, last []byte) error {
	raw, err := ln.Accept()
	if err != nil {
		return err
	}
	defer raw.Close()
	if _, err := io.Copy(io.Discard, tls.Server(raw, conf)); err != nil {
		return err
	}
	// And our FIN: with it unread the close would be a reset.
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	_, err = raw.Write(last)
	return err
}
