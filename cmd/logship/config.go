package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/gelf"
	"sidecar/internal/journal"
	"sidecar/internal/output"
	"sidecar/internal/parse"
	"sidecar/internal/settings"
)

// Config is the configuration of logship; config/default.toml documents every key.
type Config struct {
	Host struct {
		Name string `toml:"name"`
	} `toml:"host"`
	Fields map[string]string `toml:"fields"`
	Input  struct {
		Journald struct {
			Enabled      bool     `toml:"enabled"`
			ExcludeUnits []string `toml:"exclude_units"`
			Directory    string   `toml:"directory"`
			Start        string   `toml:"start"`
		} `toml:"journald"`
		Stdin struct {
			Enabled bool `toml:"enabled"`
		} `toml:"stdin"`
	} `toml:"input"`
	Parse struct {
		Prefixes         []string          `toml:"prefixes"`
		Timezone         string            `toml:"timezone"`
		TimestampMaxAge  settings.Duration `toml:"timestamp_max_age"`
		TimestampMaxSkew settings.Duration `toml:"timestamp_max_skew"`
		MaxDepth         int               `toml:"max_depth"`
		MaxFields        int               `toml:"max_fields"`
		MaxValue         settings.Size     `toml:"max_value"`
	} `toml:"parse"`
	Output struct {
		URL      string            `toml:"url"`
		Timeout  settings.Duration `toml:"timeout"`
		MaxFrame settings.Size     `toml:"max_frame"`
		TLS      struct {
			CA         string          `toml:"ca"`
			Cert       string          `toml:"cert"`
			Key        settings.Secret `toml:"key"`
			ServerName string          `toml:"server_name"`
			Min        string          `toml:"min"`
		} `toml:"tls"`
	} `toml:"output"`
	Buffer struct {
		Memory settings.Size `toml:"memory"`
	} `toml:"buffer"`
	State struct {
		Dir   string            `toml:"dir"`
		Fsync settings.Duration `toml:"fsync"`
	} `toml:"state"`
	Metrics struct {
		Listen      string `toml:"listen"`
		MaxServices int    `toml:"max_services"`
	} `toml:"metrics"`
	Log struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
	Stop struct {
		Timeout settings.Duration `toml:"timeout"`
	} `toml:"stop"`
}

// defaultConfig returns the compiled defaults, the same as config/default.toml.
func defaultConfig() Config {
	var c Config
	c.Input.Journald.Enabled = true
	c.Input.Journald.ExcludeUnits = []string{"logship"}
	c.Input.Journald.Start = "tail"
	c.Parse.Prefixes = []string{"_jsonrc:"}
	c.Parse.Timezone = "UTC"
	c.Parse.TimestampMaxAge = settings.Duration(7 * 24 * time.Hour)
	c.Parse.TimestampMaxSkew = settings.Duration(24 * time.Hour)
	c.Parse.MaxDepth = 10
	c.Parse.MaxFields = 250
	c.Parse.MaxValue = 32000
	c.Output.Timeout = settings.Duration(10 * time.Second)
	c.Output.MaxFrame = 256 << 10
	c.Output.TLS.Min = "1.3"
	c.Buffer.Memory = 16 << 20
	c.State.Fsync = settings.Duration(time.Second)
	c.Metrics.Listen = "127.0.0.1:9478"
	c.Metrics.MaxServices = 200
	c.Log.Level = "info"
	c.Log.Format = "auto"
	c.Stop.Timeout = settings.Duration(10 * time.Second)
	return c
}

// configFlags are the flags that say where the configuration comes from.
type configFlags struct {
	file string
	set  []string
}

func (f *configFlags) register(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.file, "config", "", "configuration `file` (also $LOGSHIP_CONFIG), merged over config/default.toml")
	cmd.PersistentFlags().StringArrayVar(&f.set, "set", nil, "one `section.key=value`, above all files and the environment; repeatable")
}

// load reads all layers and checks what the values mean.
func (f *configFlags) load() (*Config, *settings.Effective, error) {
	c := defaultConfig()
	effective, err := settings.Load(&c, settings.Options{App: "logship", Env: os.Environ(), File: f.file, Set: f.set})
	if err != nil {
		return nil, nil, err
	}
	return &c, effective, c.check(effective)
}

// check returns what is wrong with values that have the right type.
func (c *Config) check(e *settings.Effective) error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, e.Errorf(key, format, args...))
	}
	for _, pattern := range c.Input.Journald.ExcludeUnits {
		if _, err := path.Match(pattern, ""); err != nil {
			bad("input.journald.exclude_units", "%q is not a pattern: %v; * ? and [a-z] are wildcards", pattern, err)
		}
	}
	if _, err := c.start(time.Now()); err != nil {
		bad("input.journald.start", "%v", err)
	}
	if _, err := time.LoadLocation(c.Parse.Timezone); err != nil {
		bad("parse.timezone", "%q is not a time zone of this machine: want UTC, Local or a name such as Europe/Warsaw", c.Parse.Timezone)
	}
	if c.Output.URL != "" {
		if _, err := c.target(); err != nil {
			bad("output.url", "%v", err)
		}
	}
	for name := range c.Fields {
		if !staticName.MatchString(name) || reservedNames[name] {
			bad("fields."+name, "%q is not a name that Graylog keeps: use letters, digits, _ and -, and none of GELF's own names", name)
		}
	}
	bad2 := func(key string, ok bool, want string) {
		if !ok {
			bad(key, "out of range: want %s", want)
		}
	}
	bad2("output.max_frame", c.Output.MaxFrame >= 8<<10 && c.Output.MaxFrame <= gelf.MaxFrameBytes, "8KiB to 2097151")
	bad2("parse.max_value", c.Parse.MaxValue >= 256 && c.Parse.MaxValue <= 32766, "256 to 32766 bytes, what OpenSearch takes")
	bad2("parse.max_fields", c.Parse.MaxFields >= 1 && c.Parse.MaxFields <= 480, "1 to 480")
	bad2("parse.max_depth", c.Parse.MaxDepth >= 2 && c.Parse.MaxDepth <= 100, "2 to 100")
	bad2("buffer.memory", c.Buffer.Memory >= 4<<20, "at least 4MiB")
	bad2("metrics.max_services", c.Metrics.MaxServices >= 1, "at least 1")
	bad2("output.timeout", c.Output.Timeout > 0, "more than 0s")
	bad2("stop.timeout", c.Stop.Timeout > 0, "more than 0s")
	bad2("output.tls.min", c.Output.TLS.Min == "1.2" || c.Output.TLS.Min == "1.3", `"1.2" or "1.3"`)
	return errors.Join(errs...)
}

var staticName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// reservedNames are the static field names that would be lost or would replace
// something else in Graylog (Graylog rule R9) or in our own messages.
var reservedNames = map[string]bool{"id": true, "host": true, "source": true, "message": true, "short_message": true,
	"full_message": true, "timestamp": true, "level": true, "facility": true, "file": true, "line": true, "version": true,
	"streams": true, "event_id": true, "seq": true}

// start returns the start position for a journal without a saved one.
func (c *Config) start(now time.Time) (journal.Start, error) {
	switch s := c.Input.Journald.Start; {
	case s == "tail":
		return journal.Start{}, nil
	case s == "head":
		return journal.Start{Head: true}, nil
	case strings.HasPrefix(s, "-"):
		var d settings.Duration
		if err := d.UnmarshalText([]byte(s[1:])); err == nil && d > 0 {
			return journal.Start{Since: now.Add(-time.Duration(d))}, nil
		}
	}
	return journal.Start{}, fmt.Errorf(`%q is not a start position: want "tail", "head", or how long ago, such as "-2h"`, c.Input.Journald.Start)
}

// target is where an output URL points to.
type target struct {
	address string // host:port
	host    string
	tls     bool
}

// target reads output.url.
func (c *Config) target() (target, error) {
	const want = "want gelf+tcp://host:12201 or gelf+tls://host:12201"
	u, err := url.Parse(c.Output.URL)
	if err != nil {
		return target{}, fmt.Errorf("%q is not a URL; %s", c.Output.URL, want)
	}
	if u.Scheme != "gelf+tcp" && u.Scheme != "gelf+tls" {
		return target{}, fmt.Errorf("%q is not a known kind of output; %s", u.Scheme, want)
	}
	if u.Hostname() == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
		return target{}, fmt.Errorf("%q needs a host and nothing behind it; %s", u.Redacted(), want)
	}
	port := u.Port()
	if port == "" {
		port = "12201"
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
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, e.Errorf("output.tls.ca", "%v", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, e.Errorf("output.tls.ca", "%s holds no certificate in PEM form", t.CA)
		}
	}
	if (t.Cert == "") != t.Key.IsZero() {
		return nil, e.Errorf("output.tls.cert", "cert and key belong together: set both or none")
	}
	if t.Cert == "" {
		return conf, nil
	}
	cert, err := os.ReadFile(t.Cert)
	if err != nil {
		return nil, e.Errorf("output.tls.cert", "%v", err)
	}
	key, err := t.Key.Reveal()
	if err != nil {
		return nil, e.Errorf("output.tls.key", "%v", err)
	}
	pair, err := tls.X509KeyPair(cert, []byte(key))
	if err != nil {
		return nil, e.Errorf("output.tls.cert", "%v", err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, nil
}

// places returns the journal directories to read.
func (c *Config) places() ([]journal.Place, error) {
	dir := c.Input.Journald.Directory
	if dir == "" {
		return journal.SystemPlaces()
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("journal directory: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("journal directory: %s: %w", dir, errors.Join(fs.ErrInvalid, errors.New("not a directory")))
	}
	return []journal.Place{{Root: dir}}, nil
}

// parser returns the parser.
func (c *Config) parser() *parse.Parser {
	zone, err := time.LoadLocation(c.Parse.Timezone)
	if err != nil {
		zone = time.UTC // check has refused it
	}
	return parse.New(parse.Options{Prefixes: c.Parse.Prefixes, Zone: zone,
		PastMax: time.Duration(c.Parse.TimestampMaxAge), FutureMax: time.Duration(c.Parse.TimestampMaxSkew),
		MaxDepth: c.Parse.MaxDepth, MaxFields: c.Parse.MaxFields, MaxStringBytes: int(c.Parse.MaxValue)})
}

// gelf returns the encoder's settings.
func (c *Config) gelf() gelf.Options {
	o := gelf.Options{Host: c.Host.Name, MaxFrameBytes: int(c.Output.MaxFrame)}
	if o.Host == "" {
		o.Host, _ = os.Hostname() // without one the encoder says "unknown"
	}
	for _, name := range sortedKeys(c.Fields) {
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
