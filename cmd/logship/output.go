package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidecar/internal/output"
	"sidecar/internal/settings"
)

// scheme is a kind of output.
type scheme struct {
	form  string // what its URLs look like, for messages
	port  string // if the URL has a host without one
	check func(u *url.URL) error
	open  func(c *Config, e *settings.Effective, u *url.URL) (output.Output, error)
}

// schemes are the kinds of outputs by the scheme of their URLs.
var schemes = map[string]scheme{
	"gelf+tcp": {"gelf+tcp://host:12201", "12201", hostOnly, (*Config).openTCP},
	"gelf+tls": {"gelf+tls://host:12201", "12201", hostOnly, (*Config).openTCP},
}

// target is where messages go: a URL of a known scheme that passed its check,
// with a port.
type target struct {
	*url.URL
	scheme
}

// name returns what the target is called in logs.
func (t target) name() string { return cmp.Or(t.Host, t.Path, t.Scheme) }

// parseTarget reads a URL of an output. Its errors do not repeat the URL, which may
// hold a password by mistake.
func parseTarget(raw string) (target, error) {
	forms := make([]string, 0, len(schemes))
	for _, name := range slices.Sorted(maps.Keys(schemes)) {
		forms = append(forms, schemes[name].form)
	}
	want := "want " + strings.Join(forms, " or ")
	u, err := url.Parse(raw)
	if err != nil {
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return target{}, fmt.Errorf("not a URL: %w; %s", err, want)
	}
	if u.Scheme == "" {
		return target{}, errors.New("no kind of output before the host; " + want)
	}
	s, ok := schemes[u.Scheme]
	if !ok {
		return target{}, fmt.Errorf("unknown kind of output %q; %s", u.Scheme, want)
	}
	if err := s.check(u); err != nil {
		return target{}, fmt.Errorf("%w; want %s", err, s.form)
	}
	if u.Host != "" && s.port != "" {
		port := cmp.Or(u.Port(), s.port)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return target{}, fmt.Errorf("port %s is not 1 to 65535; want %s", port, s.form)
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return target{u, s}, nil
}

// hostOnly is the check of URLs that have a host, perhaps a port, and nothing else.
func hostOnly(u *url.URL) error {
	rest := *u
	rest.Scheme, rest.Host = "", ""
	if u.Hostname() == "" || rest != (url.URL{}) && rest != (url.URL{Path: "/"}) {
		return errors.New("not a host with a port and nothing else")
	}
	return nil
}

// output returns the output, not connected, and its name for logs. An empty URL is
// an error.
func (c *Config) output(e *settings.Effective) (output.Output, string, error) {
	if c.Output.URL == "" {
		return nil, "", e.Errorf("output.url", `not set: say where to ship to, such as url = "gelf+tcp://graylog.example.com:12201" in [output], or LOGSHIP_OUTPUT__URL`)
	}
	t, err := parseTarget(c.Output.URL)
	if err != nil {
		return nil, "", e.Errorf("output.url", "%v", err)
	}
	out, err := t.open(c, e, t.URL)
	return out, t.name(), err
}

// openTCP returns GELF over TCP, or over TLS if the scheme says so.
func (c *Config) openTCP(e *settings.Effective, u *url.URL) (output.Output, error) {
	o := output.TCPOptions{Address: u.Host, DialTimeout: time.Duration(c.Output.Timeout)}
	if u.Scheme == "gelf+tls" {
		var err error
		if o.TLS, err = c.tls(e, u.Hostname()); err != nil {
			return nil, err
		}
	}
	return output.NewTCP(o), nil
}

// tls returns what makes the TLS configuration of a connection to a receiver of
// that name. It reads the files anew each time, so that certificates can be
// replaced under a logship that runs.
func (c *Config) tls(e *settings.Effective, host string) (func() (*tls.Config, error), error) {
	t := &c.Output.TLS
	read := func() (*tls.Config, error) {
		conf := &tls.Config{ServerName: cmp.Or(t.ServerName, host), MinVersion: tls.VersionTLS13}
		if t.Min == "1.2" {
			conf.MinVersion = tls.VersionTLS12
		}
		var err error
		if t.CA != "" {
			if conf.RootCAs, err = authorities(e, "output.tls.ca", t.CA); err != nil {
				return nil, err
			}
		}
		conf.Certificates, err = certificates(e, "output.tls", t.Cert, t.Key)
		return conf, err
	}
	_, err := read()
	return read, err
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
