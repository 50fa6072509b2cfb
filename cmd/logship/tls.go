package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"os"

	"sidecar/internal/settings"
)

// tls returns what makes the TLS configuration of a connection to a receiver of
// that name. It reads the files anew each time, so that certificates can be
// replaced under a logship that runs; while they cannot be read, as in the middle
// of that, it goes on with what they were. It is for one goroutine.
func (o opener) tls(host string) (func() (*tls.Config, error), error) {
	last, err := o.readTLS(host)
	if err != nil {
		return nil, err
	}
	failing := false
	return func() (*tls.Config, error) {
		conf, err := o.readTLS(host)
		if err != nil {
			if !failing {
				o.log.Warn("TLS files cannot be read any more, go on with what they were", "err", err)
			}
			failing = true
			return last, nil
		}
		failing, last = false, conf
		return conf, nil
	}, nil
}

// readTLS reads the files of output.tls.
func (o opener) readTLS(host string) (*tls.Config, error) {
	t := &o.Output.TLS
	conf := &tls.Config{ServerName: cmp.Or(t.ServerName, host), MinVersion: tls.VersionTLS13}
	if t.Min == "1.2" {
		conf.MinVersion = tls.VersionTLS12
	}
	var err error
	if t.CA != "" {
		if conf.RootCAs, err = authorities(o.effective, "output.tls.ca", t.CA); err != nil {
			return nil, err
		}
	}
	conf.Certificates, err = certificates(o.effective, "output.tls", t.Cert, t.Key)
	return conf, err
}

// authorities reads the certificates of authorities from a PEM file; key is the
// setting's.
func authorities(e *settings.Effective, key, path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, e.Errorf(key, "%v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, e.Errorf(key, "%s holds no certificate in PEM form", path)
	}
	return pool, nil
}

// certificates reads a certificate and its key, of the settings cert and key of a
// table; none if neither is set.
func certificates(e *settings.Effective, table, path string, secret settings.Secret) ([]tls.Certificate, error) {
	if (path == "") != secret.IsZero() {
		return nil, e.Errorf(table+".cert", "cert and key belong together: set both or none")
	}
	if path == "" {
		return nil, nil
	}
	cert, err := os.ReadFile(path)
	if err != nil {
		return nil, e.Errorf(table+".cert", "%v", err)
	}
	key, err := secret.Reveal()
	if err != nil {
		return nil, e.Errorf(table+".key", "%v", err)
	}
	pair, err := tls.X509KeyPair(cert, []byte(key))
	if err != nil {
		return nil, e.Errorf(table+".cert", "%v", err)
	}
	return []tls.Certificate{pair}, nil
}
