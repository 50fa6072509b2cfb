package gelftest

import (
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
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waitLimit ends a test that would hang; moment is how long a test watches that
// nothing happens.
const (
	waitLimit = 20 * time.Second
	moment    = 30 * time.Millisecond
)

const loopback = "127.0.0.1:0"

// doc returns a GELF message whose short message is m.
func doc(m string) string {
	return fmt.Sprintf(`{"version":"1.1","host":"h","short_message":%q,"timestamp":1700000000,"level":6}`, m)
}

// docs returns frames with the messages 0 to n-1.
func docs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(doc(fmt.Sprint(i)) + "\x00")
	}
	return b.String()
}

// startLog runs an input for o that logs into the returned Log.
func startLog(t *testing.T, o Options) (*Input, *Log) {
	t.Helper()
	l := NewLog("message")
	o.Sink, o.Logf = l.Add, t.Logf
	return Start(t, o), l
}

// dial connects to the TCP or HTTP listener of in until the test ends.
func dial(t *testing.T, in *Input, transport string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", in.Addr(transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func send(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func halfClose(t *testing.T, c halfCloser) {
	t.Helper()
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// ended reads c to its end and returns nil for EOF, else the error.
func ended(t *testing.T, c io.Reader) error {
	t.Helper()
	b := make([]byte, 256)
	if n, err := c.Read(b); n > 0 {
		t.Fatalf("the input sent %q", b[:n])
	} else if err != io.EOF {
		return err
	}
	return nil
}

func wantEOF(t *testing.T, c io.Reader) {
	t.Helper()
	if err := ended(t, c); err != nil {
		t.Fatalf("got %v, want EOF", err)
	}
}

// wantOpen checks that the peer has not closed c.
func wantOpen(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(moment)); err != nil {
		t.Fatal(err)
	}
	if err := ended(t, c); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want an open connection", err)
	}
	if err := c.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, l *Log, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := l.WaitFor(ctx, n); err != nil {
		t.Fatal(err)
	}
}

// wantMessages checks the accepted messages of a Log of "message", joined by spaces.
func wantMessages(t *testing.T, l *Log, want string) {
	t.Helper()
	var got []string
	for _, r := range l.Messages() {
		got = append(got, r.Values[0])
	}
	if strings.Join(got, " ") != want {
		t.Errorf("got messages %.200q, want %.200q", strings.Join(got, " "), want)
	}
}

// sequence returns "0 1 … n-1".
func sequence(n int) string {
	var s []string
	for i := range n {
		s = append(s, fmt.Sprint(i))
	}
	return strings.Join(s, " ")
}

// tlsConfigs returns a server and a client configuration for 127.0.0.1.
func tlsConfigs(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "gelftest"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return server, &tls.Config{RootCAs: roots}
}
