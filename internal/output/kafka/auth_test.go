package kafka_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// certificate returns one for the loopback address, and a pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kafka"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
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
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	c := cluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
	o := options(c)
	trust := pool
	var broken error
	o.TLS = func() (*tls.Config, error) { return &tls.Config{RootCAs: trust}, broken }
	out := connect(t, o)
	send(t, out, 0, 100)
	cut(t, out, 1)
	wantConfirmed(t, out, 1)
	out.Abort()
	wantMessages(t, c, 100, kgo.DialTLSConfig(&tls.Config{RootCAs: pool}))

	// The configuration is asked for again by each Connect.
	trust = x509.NewCertPool()
	if err := out.Connect(within(t)); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v", err)
	}
	broken = errors.New("the file is gone")
	if err := out.Connect(within(t)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestSASL(t *testing.T) {
	for _, tt := range []struct{ option, mechanism string }{
		{"PLAIN", "PLAIN"}, {"SCRAM-SHA-256", "SCRAM-SHA-256"}, {"SCRAM-SHA-512", "SCRAM-SHA-512"}, {"", "SCRAM-SHA-512"},
	} {
		t.Run("mechanism "+tt.option, func(t *testing.T) {
			c := cluster(t, kfake.EnableSASL(), kfake.Superuser(tt.mechanism, "logship", "secret"))
			o := options(c)
			o.Mechanism, o.User, o.Password = tt.option, "logship", "secret"
			out := connect(t, o)
			send(t, out, 0, 10)
			cut(t, out, 1)
			wantConfirmed(t, out, 1)

			o.Password = "wrong"
			err := newKafka(t, o).Connect(within(t))
			if err == nil || strings.Contains(err.Error(), "wrong") {
				t.Errorf("got %v", err)
			}
		})
	}
}
