package faults

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue returns a certificate for an address that expires after d.
func (a *authority) issue(t *testing.T, address string, d time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.ParseIP(address)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(d)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// receiver returns what a receiver of logships that a has signed uses, with cert.
func (a *authority) receiver(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool()}
}

// install writes the files of logship's TLS settings: of authority a, and a
// certificate that it has signed.
func (s *setup) install(t *testing.T, a *authority) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		must(t, os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	cert := a.issue(t, s.net+".2", time.Hour)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	must(t, err)
	write("ca.pem", "CERTIFICATE", a.cert.Raw)
	write("cert.pem", "CERTIFICATE", cert.Certificate[0])
	write("key.pem", "PRIVATE KEY", key)
}

// beginTLS starts an input that uses the TLS configuration in use, instead of the
// receiver of the other rows.
func (s *setup) beginTLS(t *testing.T, use *atomic.Pointer[tls.Config]) *gelftest.Input {
	t.Helper()
	path := filepath.Join(s.dir, "received.tls")
	s.next(t, path)
	f, err := os.Create(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	lines := bufio.NewWriter(f)
	in := gelftest.Start(t, gelftest.Options{TCP: s.receiverAddress(),
		TLS: &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return use.Load(), nil }},
		Sink: func(m gelftest.Message) {
			_, _ = lines.Write(append(m.Raw[:len(m.Raw):len(m.Raw)], '\n'))
			_ = lines.Flush() // an error shows as messages that are missing
		}})
	s.url = "gelf+tls://" + s.receiverAddress()
	s.set = append(s.set, "output.tls.ca="+filepath.Join(s.dir, "ca.pem"), "output.tls.cert="+filepath.Join(s.dir, "cert.pem"),
		"output.tls.key=file:"+filepath.Join(s.dir, "key.pem"), "output.timeout=1s")
	return in
}

// TestRow18TLS: with a receiver whose certificate is not right, or that does not finish
// the handshake, messages wait and logship says why. When that is mended, by either
// side and without a restart, they go out.
func TestRow18TLS(t *testing.T) {
	t.Parallel()
	s := newSetup(t, 18)
	a := newAuthority(t)
	good := a.receiver(a.issue(t, s.receiverHost(), time.Hour))
	stalled := make(chan struct{})
	stalling := good.Clone()
	stalling.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { <-stalled; return &good.Certificates[0], nil }
	stalling.Certificates = nil
	var use atomic.Pointer[tls.Config]
	use.Store(good)
	in := s.beginTLS(t, &use)
	s.install(t, a)
	s.beginLogship(t)
	s.beginLoad(t, 500, post(t, s.inputAddress(), clientTimeout))
	s.flows(t)
	for _, tt := range []struct {
		fault *tls.Config
		says  string
	}{
		{a.receiver(a.issue(t, s.receiverHost(), -time.Hour)), "certificate has expired"},
		{a.receiver(a.issue(t, s.net+".9", time.Hour)), "certificate is valid for .*, not " + s.receiverHost()},
		{newAuthority(t).receiver(newAuthority(t).issue(t, s.receiverHost(), time.Hour)), "certificate signed by unknown authority"},
		{newAuthority(t).receiver(good.Certificates[0]), "bad certificate|unknown certificate authority"},
		{stalling, "TLS handshake with .*deadline exceeded"},
	} {
		s.stopLogship(t)
		use.Store(tt.fault)
		s.beginLogship(t)
		s.logship.said(t, "level=(WARN|ERROR).*("+tt.says+")")
		s.load.more(t, s.rate/2)
		use.Store(good)
		s.recover(t, 5*time.Second)
	}
	close(stalled)

	// First the receiver changes to another authority, then logship. The outage begins
	// with something else.
	other := newAuthority(t)
	use.Store(other.receiver(other.issue(t, s.receiverHost(), time.Hour)))
	in.Reset()
	s.faults++
	s.logship.said(t, "receiver refuses what is sent.*unknown authority")
	s.install(t, other)
	s.recover(t, 5*time.Second)
	s.verdict(t)
}
