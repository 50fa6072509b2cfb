package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/guard"
	"sidecar/internal/journal"
	"sidecar/internal/output"
	"sidecar/internal/parse"
	"sidecar/internal/redact"
	"sidecar/internal/settings"
	"sidecar/internal/ship"
)

// target is where an output URL points to.
type target struct {
	address string // host:port
	host    string
	tls     bool
}

// target reads output.url. Its errors do not repeat the URL, which may hold a
// password by mistake.
func (c *Config) target() (target, error) {
	const want = "want gelf+tcp://host:12201 or gelf+tls://host:12201"
	u, err := url.Parse(c.Output.URL)
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
	if u.Scheme != "gelf+tcp" && u.Scheme != "gelf+tls" {
		return target{}, fmt.Errorf("unknown kind of output %q; %s", u.Scheme, want)
	}
	rest := *u
	rest.Scheme, rest.Host = "", ""
	if u.Hostname() == "" || rest != (url.URL{}) && rest != (url.URL{Path: "/"}) {
		return target{}, fmt.Errorf("not a host with a port and nothing else; %s", want)
	}
	port := cmp.Or(u.Port(), "12201")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return target{}, fmt.Errorf("port %s is not 1 to 65535; %s", port, want)
	}
	return target{address: net.JoinHostPort(u.Hostname(), port), host: u.Hostname(), tls: u.Scheme == "gelf+tls"}, nil
}

// output returns the output, not connected. An empty URL is an error.
func (c *Config) output(e *settings.Effective) (*output.TCP, target, error) {
	if c.Output.URL == "" {
		return nil, target{}, e.Errorf("output.url", `not set: say where to ship to, such as url = "gelf+tcp://graylog.example.com:12201" in [output], or LOGSHIP_OUTPUT__URL`)
	}
	t, err := c.target()
	if err != nil {
		return nil, t, err
	}
	o := output.TCPOptions{Address: t.address, DialTimeout: time.Duration(c.Output.Timeout)}
	if t.tls {
		if o.TLS, err = c.tls(e, t.host); err != nil {
			return nil, t, err
		}
	}
	return output.NewTCP(o), t, nil
}

// tls returns the TLS configuration for a receiver of that name.
func (c *Config) tls(e *settings.Effective, host string) (*tls.Config, error) {
	t := &c.Output.TLS
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS13}
	if t.Min == "1.2" {
		conf.MinVersion = tls.VersionTLS12
	}
	if t.ServerName != "" {
		conf.ServerName = t.ServerName
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

// places returns the journal directories to read.
func (c *Config) places() ([]journal.Place, error) {
	dir := c.Input.Journald.Directory
	if dir == "" {
		places, err := journal.SystemPlaces()
		if err != nil {
			return nil, withCode(exitNoJournal, err)
		}
		for i := range places {
			places[i].Namespaces = c.Input.Journald.Namespaces
		}
		return places, nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, withCode(exitPermission, fmt.Errorf("open input.journald.directory: %w", err))
	case err != nil:
		return nil, withCode(exitNoJournal, fmt.Errorf("open input.journald.directory: %w", err))
	case !info.IsDir():
		return nil, withCode(exitNoJournal, fmt.Errorf("open input.journald.directory: %s is not a directory", dir))
	}
	return []journal.Place{{Root: dir}}, nil
}

// parser returns the parser.
func (c *Config) parser() *parse.Parser {
	var zone *time.Location // UTC, unless the time of arrival reveals another
	if c.Parse.Timezone != "UTC" {
		zone, _ = time.LoadLocation(c.Parse.Timezone) // check has refused others
	}
	return parse.New(parse.Options{Prefixes: c.Parse.Prefixes, Zone: zone,
		PastMax: time.Duration(c.Parse.TimestampMaxAge), FutureMax: time.Duration(c.Parse.TimestampMaxSkew),
		MaxDepth: c.Parse.MaxDepth, MaxFields: c.Parse.MaxFields, MaxStringBytes: int(c.Parse.MaxValue)})
}

// redactor returns what takes secrets out, nil if that is switched off.
func (c *Config) redactor() (*redact.Redactor, error) {
	if !c.Redact.Enabled {
		return nil, nil
	}
	o := redact.Options{Keys: c.Redact.Keys, Keep: c.Redact.Keep, Off: c.Redact.Off}
	for _, name := range slices.Sorted(maps.Keys(c.Redact.Patterns)) {
		o.Patterns = append(o.Patterns, redact.Pattern{Name: name, Expr: c.Redact.Patterns[name]})
	}
	return redact.New(o)
}

// pipeline returns what makes messages of entries, without the guard of types,
// which needs what earlier messages have taught it.
func (c *Config) pipeline() (ship.Pipeline, error) {
	applied, err := c.rules()
	if err != nil {
		return ship.Pipeline{}, err
	}
	redactor, err := c.redactor()
	return ship.Pipeline{Parser: c.parser(), Rules: applied, Redactor: redactor, GELF: c.gelf()}, err
}

// guard returns the guard of types. learned is what it has learned before.
func (c *Config) guard(learned *guard.Table, log *slog.Logger) (*guard.Guard, error) {
	mode, err := guard.ParseMode(c.Types.Mode)
	if err != nil {
		return nil, err
	}
	o := guard.Options{Mode: mode, Table: learned, MaxNames: c.Types.MaxNames, OnConflict: func(field, was, is string) {
		log.Warn("values of a field differ in type; those that do not fit go to a field of their own", "field", field, "type", was, "value", is)
	}}
	if c.Types.File != "" {
		if o.Shared, err = guard.ReadTable(c.Types.File); err != nil {
			return nil, err
		}
	}
	return guard.New(o), nil
}

// gelf returns the encoder's settings.
func (c *Config) gelf() gelf.Options {
	o := gelf.Options{Host: c.Host.Name, MaxFrameBytes: int(c.Output.MaxFrame)}
	if o.Host == "" {
		o.Host, _ = os.Hostname() // without one the encoder says "unknown"
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		o.AddStatic(name, c.Fields[name])
	}
	return o
}

// stateDir returns where the state is kept: the configuration's, systemd's
// (StateDirectory=), or the usual place.
func (c *Config) stateDir() string {
	if c.State.Dir != "" {
		return c.State.Dir
	}
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.SplitList(dir)[0]
	}
	return "/var/lib/logship"
}
