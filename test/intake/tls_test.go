package intake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

const (
	tlsOwn  = "tls://127.0.0.1:10517"
	tlsConf = `[[input.syslog]]
listen = "` + tlsOwn + `"
tls = { cert = "/etc/logship/cert.pem", key = "file:/etc/logship/key.pem" }
`
)

// TestTLS restarts logship under load of TLS senders, and kills it. None is refused: the
// handshake of a new connection waits for the next process. What was sent on a connection
// that ended in order is stored; the rest, which a sender sends again, may be.
func TestTLS(t *testing.T) {
	d := start(t, socketUnit(t), "")
	cert, key := keyPair(t)
	must(t, d.WriteFile(t.Context(), "/etc/logship/cert.pem", cert, 0o644))
	must(t, d.WriteFile(t.Context(), "/etc/logship/key.pem", key, 0o644))
	must(t, d.WriteFile(t.Context(), "/etc/logship/logship.toml", []byte(config+tlsConf), 0o644))
	d.Do(t, "systemctl", "restart", "logship.service")
	const each = 700 * time.Millisecond
	end := d.begin(t,
		flow{Listen: tlsOwn, Stream: "long", Count: 2000, Rate: 500, Size: 300, Batch: 250},
		flow{Listen: tlsOwn, Stream: "short", Count: 200, Rate: 50, Size: 300, Batch: 1})
	pause(each)
	d.Do(t, "systemctl", "restart", "logship.service")
	pause(each)
	d.killed = true
	d.signal(t, "KILL", "logship.service")
	accounts := end()
	d.awaitAll(t, accounts)
	for stream, a := range accounts {
		t.Logf("%s: %+v", stream, a)
	}
	if a := accounts["long"]; a.Broken < 2 {
		t.Errorf("%d connections broke, want one for the restart and one for the kill", a.Broken)
	}
}

// keyPair returns a certificate, signed by itself, and its key, in PEM.
func keyPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
