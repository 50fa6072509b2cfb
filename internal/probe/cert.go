package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"sidecar/internal/health"
)

// maxCertBytes bounds a file of certificates.
const maxCertBytes = 1 << 20

// expiry judges when certificates end, and remembers the last one that it saw: when
// the endpoint cannot be reached, the date is still known.
type expiry struct {
	warn, fail time.Duration
	now        func() time.Time
	key        string // of the check
	seen       *Certificates
}

func newExpiry(t *target) *expiry {
	e := &expiry{warn: t.opt.duration("warn", 21*24*time.Hour), fail: t.opt.duration("fail", 3*24*time.Hour), now: t.env.Now, key: t.key(), seen: t.env.Certificates}
	if e.warn < e.fail {
		t.opt.bad("warn", errors.New("it is below the limit of fail"))
	}
	return e
}

// tlsCheck is the check of a live TLS endpoint: the handshake works, the certificate
// is trusted and for the name, and ends late enough.
//
// Options: warn (21d) and fail (3d) before the end, name (of the certificate), ca (a
// file of roots), verify (no: only the dates count).
func tlsCheck(t *target) (Func, error) {
	at, err := t.endpoint("443")
	if err != nil {
		return nil, err
	}
	config, err := clientTLS(t, t.url.Hostname())
	if err != nil {
		return nil, err
	}
	verify := !config.InsecureSkipVerify
	// The chain is verified after the handshake, so that the date of a certificate that
	// is not trusted is known.
	config.InsecureSkipVerify, config.ClientSessionCache = true, nil
	e := newExpiry(t)
	return func(ctx context.Context) health.Result {
		w, err := at.dial(ctx)
		if err != nil {
			return e.known(failed("connect", err))
		}
		defer w.Close()
		conn := tls.Client(w, config)
		if err := conn.HandshakeContext(ctx); err != nil {
			return e.known(failed("handshake", err))
		}
		chain := conn.ConnectionState().PeerCertificates
		r := e.judge(chain)
		if verify && r.State != health.Fail {
			if err := verifyChain(chain, config, e.now()); err != nil {
				r.State, r.Text = health.Fail, cutText(err.Error(), maxTextBytes)
			}
		}
		return r
	}, nil
}

func verifyChain(chain []*x509.Certificate, config *tls.Config, now time.Time) error {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: config.ServerName, Roots: config.RootCAs, Intermediates: between, CurrentTime: now})
	return err
}

// certCheck is the check of a file of certificates in PEM. Options: warn and fail, as
// with tls.
func certCheck(t *target) (Func, error) {
	path, err := t.filePath()
	if err != nil {
		return nil, err
	}
	e := newExpiry(t)
	return func(context.Context) health.Result {
		chain, err := readCertificates(path)
		if err != nil {
			return e.known(fail("%v", err))
		}
		return e.judge(chain)
	}, nil
}

// readCertificates reads the certificates of a file; other blocks, a key say, are
// passed over.
func readCertificates(path string) ([]*x509.Certificate, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxCertBytes {
		return nil, fmt.Errorf("read %s: not a file of certificates", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseCertificates(data)
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return chain, nil
}

// judge judges the certificate of a chain that ends first.
func (e *expiry) judge(chain []*x509.Certificate) health.Result {
	first, now := chain[0], e.now()
	for _, c := range chain[1:] {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	seen := seenCertificate{NotAfter: first.NotAfter, Seen: now}
	e.seen.change(e.key, func(seenCertificate, bool) (seenCertificate, bool) { return seen, true })
	name := cutText(first.Subject.CommonName, 64)
	if name == "" && len(first.DNSNames) > 0 {
		name = cutText(first.DNSNames[0], 64)
	}
	date := first.NotAfter.UTC().Format(time.DateOnly)
	var r health.Result
	switch left := first.NotAfter.Sub(now); {
	case now.Before(chain[0].NotBefore):
		r = fail("certificate %q is not valid before %s", name, chain[0].NotBefore.UTC().Format(time.DateOnly))
	case left <= 0:
		r = fail("certificate %q ended on %s", name, date)
	case left < e.fail:
		r = fail("certificate %q ends on %s", name, date)
	case left < e.warn:
		r = warn("certificate %q ends on %s", name, date)
	default:
		r = pass("certificate %q is valid until %s", name, date)
	}
	return seen.values(r)
}

// known adds the last date that was seen to a result without one.
func (e *expiry) known(r health.Result) health.Result {
	seen, ok := e.seen.get(e.key)
	if !ok {
		return r
	}
	r.Text = cutText(fmt.Sprintf("%s; the last certificate seen ends on %s", r.Text, seen.NotAfter.UTC().Format(time.DateOnly)), maxTextBytes)
	return seen.values(r)
}

func (c seenCertificate) values(r health.Result) health.Result {
	r = measured(r, "not_after_timestamp_seconds", float64(c.NotAfter.Unix()))
	return measured(r, "certificate_seen_timestamp_seconds", float64(c.Seen.Unix()))
}
