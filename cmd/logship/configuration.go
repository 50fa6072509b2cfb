package main

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"sidecar/internal/cli"
	"sidecar/internal/filetail"
	"sidecar/internal/gelf"
	"sidecar/internal/guard"
	"sidecar/internal/output"
	"sidecar/internal/redact"
	"sidecar/internal/rules"
	"sidecar/internal/settings"
)

// Config is the configuration of logship; config/default.toml documents every key.
type Config struct {
	Rule []rules.Rule `toml:"rule"`
	Host struct {
		Name string `toml:"name"`
	} `toml:"host"`
	Fields map[string]string `toml:"fields"`
	Input  struct {
		Journald struct {
			Enabled      bool     `toml:"enabled"`
			Units        []string `toml:"units"`
			UserUnits    []string `toml:"user_units"`
			Identifiers  []string `toml:"identifiers"`
			Priority     string   `toml:"priority"`
			Matches      []string `toml:"matches"`
			ExcludeUnits []string `toml:"exclude_units"`
			Namespaces   []string `toml:"namespaces"`
			Directory    string   `toml:"directory"`
			Start        string   `toml:"start"`
			Pins         struct {
				Enabled bool          `toml:"enabled"`
				Quota   settings.Size `toml:"quota"`
			} `toml:"pins"`
		} `toml:"journald"`
		Stdin struct {
			Enabled bool `toml:"enabled"`
			Spool   bool `toml:"spool"`
		} `toml:"stdin"`
		Syslog []SyslogInput `toml:"syslog"`
		GELF   []GELFInput   `toml:"gelf"`
		File   struct {
			Paths   []string `toml:"paths"`
			Exclude []string `toml:"exclude"`
			Start   string   `toml:"start"`
		} `toml:"file"`
	} `toml:"input"`
	Spool struct {
		Dir     string        `toml:"dir"`
		Max     settings.Size `toml:"max"`
		MinFree settings.Size `toml:"min_free"`
		OnFull  string        `toml:"on_full"`
	} `toml:"spool"`
	Parse struct {
		Prefixes         []string          `toml:"prefixes"`
		Timezone         string            `toml:"timezone"`
		TimestampMaxAge  settings.Duration `toml:"timestamp_max_age"`
		TimestampMaxSkew settings.Duration `toml:"timestamp_max_skew"`
		MaxDepth         int               `toml:"max_depth"`
		MaxFields        int               `toml:"max_fields"`
		MaxValue         settings.Size     `toml:"max_value"`
		Multiline        bool              `toml:"multiline"`
	} `toml:"parse"`
	Redact struct {
		Enabled  bool              `toml:"enabled"`
		Keys     []string          `toml:"keys"`
		Keep     []string          `toml:"keep"`
		Off      []string          `toml:"off"`
		Patterns map[string]string `toml:"patterns"`
	} `toml:"redact"`
	Types struct {
		Mode     string `toml:"mode"`
		File     string `toml:"file"`
		MaxNames int    `toml:"max_names"`
	} `toml:"types"`
	Aliases struct {
		Enabled bool `toml:"enabled"`
	} `toml:"aliases"`
	Limits struct {
		Rate    int               `toml:"rate"`
		Burst   int               `toml:"burst"`
		Summary settings.Duration `toml:"summary"`
	} `toml:"limits"`
	Output struct {
		URL          string            `toml:"url"`
		URLs         []string          `toml:"urls"`
		Balance      string            `toml:"balance"`
		Reconnect    settings.Duration `toml:"reconnect"`
		DNSRefresh   settings.Duration `toml:"dns_refresh"`
		LBStatus     string            `toml:"lbstatus"`
		Confirm      string            `toml:"confirm"`
		User         string            `toml:"user"`
		Password     settings.Secret   `toml:"password"`
		Timeout      settings.Duration `toml:"timeout"`
		MaxFrame     settings.Size     `toml:"max_frame"`
		ReplayWindow settings.Duration `toml:"replay_window"`
		Compress     string            `toml:"compress"`
		UDPChunk     settings.Size     `toml:"udp_chunk"`
		HTTP         struct {
			Token   settings.Secret `toml:"token"`
			Bulk    bool            `toml:"bulk"`
			MaxBody settings.Size   `toml:"max_body"`
		} `toml:"http"`
		TLS struct {
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
	DLQ struct {
		File string        `toml:"file"`
		Max  settings.Size `toml:"max"`
	} `toml:"dlq"`
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
	c.Input.Journald.Priority = "debug"
	c.Input.Journald.ExcludeUnits = []string{"logship"}
	c.Input.Journald.Start = "tail"
	c.Input.Journald.Pins.Quota = 1 << 30
	c.Input.Stdin.Spool = true
	c.Input.File.Start = "tail"
	c.Spool.Max = 1 << 30
	c.Spool.MinFree = 256 << 20
	c.Spool.OnFull = "block"
	c.Parse.Prefixes = []string{"_jsonrc:"}
	c.Parse.Timezone = "UTC"
	c.Parse.TimestampMaxAge = settings.Duration(7 * 24 * time.Hour)
	c.Parse.TimestampMaxSkew = settings.Duration(24 * time.Hour)
	c.Parse.MaxDepth = 10
	c.Parse.MaxFields = 250
	c.Parse.MaxValue = 32000
	c.Parse.Multiline = true
	c.Redact.Enabled = true
	c.Types.Mode = "learn"
	c.Types.MaxNames = guard.DefaultMaxNames
	c.Limits.Summary = settings.Duration(time.Minute)
	c.Output.Balance = "failover"
	c.Output.Reconnect = settings.Duration(10 * time.Minute)
	c.Output.DNSRefresh = settings.Duration(time.Minute)
	c.Output.Confirm = "auto"
	c.Output.Timeout = settings.Duration(10 * time.Second)
	c.Output.MaxFrame = 256 << 10
	c.Output.Compress = "auto"
	c.Output.UDPChunk = output.DefaultChunkBytes
	c.Output.HTTP.MaxBody = output.DefaultMaxBodyBytes
	c.Output.TLS.Min = "1.3"
	c.DLQ.Max = 64 << 20
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
type configFlags struct{ cli.Flags }

// load reads all layers and checks what the values mean.
func (f *configFlags) load() (*Config, *settings.Effective, error) {
	c := defaultConfig()
	effective, err := settings.Load(&c, f.Options("logship"))
	if err != nil {
		return nil, nil, err
	}
	return &c, effective, c.check(effective)
}

// effective is load for who wants to know only where values come from.
func (f *configFlags) effective() (*settings.Effective, error) {
	_, effective, err := f.load()
	return effective, err
}

// check returns what is wrong with values that have the right type, one error
// for each.
func (c *Config) check(e *settings.Effective) error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, e.Errorf(key, format, args...))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		if !staticName.MatchString(name) || isReserved(name) {
			key := name
			if !staticName.MatchString(name) {
				key = strconv.Quote(name) // as a TOML key
			}
			bad("fields."+key, "%q is not a name that Graylog keeps: use letters, digits, _ and -, and none of GELF's own names", name)
		}
	}
	errs = append(errs, c.checkJournald(e)...)
	if c.direct() && (c.Input.Journald.Enabled || len(c.Input.Syslog)+len(c.Input.GELF)+len(c.Input.File.Paths) > 0) {
		bad("input.stdin.spool", "without the spool standard input is the only input: set input.stdin.spool = true, or switch the others off")
	}
	if c.direct() && c.Output.ReplayWindow > 0 {
		bad("output.replay_window", "standard input without the spool waits in memory, for less than that: set it to \"0s\", or input.stdin.spool = true")
	}
	if err := filetail.Check(c.fileOptions()); len(c.Input.File.Paths) > 0 && err != nil {
		bad("input.file.paths", "%v", err)
	}
	if c.Input.File.Start != "tail" && c.Input.File.Start != "head" {
		bad("input.file.start", `%q is not a start position: want "tail" or "head"`, c.Input.File.Start)
	}
	if c.Spool.OnFull != "block" && c.Spool.OnFull != "discard_oldest" {
		bad("spool.on_full", `%q is not what can be done: want "block" or "discard_oldest"`, c.Spool.OnFull)
	}
	if slices.Contains(c.Parse.Prefixes, "") {
		bad("parse.prefixes", "an empty prefix announces nothing: leave it out; documents without a prefix are found anyway")
	}
	if _, err := time.LoadLocation(c.Parse.Timezone); err != nil {
		bad("parse.timezone", "%q is not a time zone of this machine: want UTC, Local or a name such as Europe/Warsaw", c.Parse.Timezone)
	}
	errs = append(errs, c.checkOutput(e)...)
	if !cli.IsListenAddress(c.Metrics.Listen) {
		bad("metrics.listen", `%q is not an address: want host:port, unix:/path, or "" for off`, c.Metrics.Listen)
	}
	errs = append(errs, cli.CheckLog(e, c.Log.Level, c.Log.Format)...)
	errs = append(errs, c.checkSyslog(e)...)
	errs = append(errs, c.checkGELF(e)...)
	_, wrongRules := c.rules()
	_, wrongRedact := c.redactor()
	errs = append(append(errs, located(e, wrongRules)...), located(e, wrongRedact)...)
	if _, err := guard.ParseMode(c.Types.Mode); err != nil {
		bad("types.mode", "%v", err)
	} else if c.Types.File != "" {
		if _, err := guard.ReadTable(c.Types.File); err != nil {
			bad("types.file", "%v", err)
		}
	}
	return errors.Join(append(errs, c.checkRanges(e))...)
}

// checkOutput returns what is wrong with where to ship to.
func (c *Config) checkOutput(e *settings.Effective) (errs []error) {
	if c.Output.URL != "" || len(c.Output.URLs) > 0 {
		if _, err := (opener{Config: c, effective: e}).targets(); err != nil {
			errs = append(errs, err)
		}
	}
	if err := checkLBStatus(c.Output.LBStatus); err != nil {
		errs = append(errs, e.Errorf("output.lbstatus", "%v", err))
	}
	return errs
}

// rules compiles the rules, aliases and limits.
func (c *Config) rules() (*rules.Rules, error) {
	return rules.New(rules.Options{Rules: c.Rule, Aliases: c.Aliases.Enabled,
		Limits: rules.Limits{Rate: c.Limits.Rate, Burst: c.Limits.Burst, Summary: time.Duration(c.Limits.Summary)}})
}

// located returns the mistakes that err joins, each with the place of its key.
func located(e *settings.Effective, err error) (errs []error) {
	joined, _ := err.(interface{ Unwrap() []error })
	if joined == nil {
		return nil
	}
	for _, err := range joined.Unwrap() {
		rule, secret := new(rules.Error), new(redact.Error)
		switch {
		case errors.As(err, &rule):
			err = e.Errorf(rule.Key, "%w", rule.Err)
		case errors.As(err, &secret):
			err = e.Errorf(secret.Key, "%w", secret.Err)
		}
		errs = append(errs, err)
	}
	return errs
}

// checkRanges returns what is wrong with numbers, sizes and durations.
func (c *Config) checkRanges(e *settings.Effective) error {
	return errors.Join(
		e.Require(c.Input.Journald.Pins.Quota >= 0, "input.journald.pins.quota", "0 bytes or more"),
		e.Require(c.Parse.MaxDepth >= 2 && c.Parse.MaxDepth <= 100, "parse.max_depth", "2 to 100"),
		e.Require(c.Parse.MaxFields >= 1 && c.Parse.MaxFields <= 480, "parse.max_fields", "1 to 480"),
		e.Require(c.Parse.MaxValue >= 256 && c.Parse.MaxValue <= 32766, "parse.max_value", "256 to 32766 bytes, what OpenSearch takes"),
		e.Require(c.Types.MaxNames >= 1, "types.max_names", "at least 1"),
		e.Require(c.Output.Balance == "failover" || c.Output.Balance == "random", "output.balance", `"failover" or "random"`),
		e.Require(c.Output.Reconnect >= 0, "output.reconnect", "0s or more"),
		e.Require(c.Output.DNSRefresh >= 0, "output.dns_refresh", "0s or more"),
		e.Require(slices.Contains([]string{"auto", "half_close", "kernel", "none"}, c.Output.Confirm), "output.confirm", `"auto", "half_close", "kernel" or "none"`),
		e.Require(c.Output.Timeout > 0, "output.timeout", "more than 0s"),
		e.Require(c.Output.MaxFrame >= 8<<10 && c.Output.MaxFrame <= gelf.MaxFrameBytes, "output.max_frame", "8KiB to 2097151 bytes, what Graylog takes"),
		e.Require(c.Output.ReplayWindow >= 0, "output.replay_window", "0s or more"),
		e.Require(slices.Contains(slices.Collect(maps.Keys(compressions)), c.Output.Compress), "output.compress", `"auto", "none", "gzip" or "zlib"`),
		e.Require(c.Output.UDPChunk >= output.MinChunkBytes && c.Output.UDPChunk <= output.MaxChunkBytes, "output.udp_chunk", "512 to 65507 bytes"),
		e.Require(c.Output.HTTP.MaxBody >= 16<<10 && c.Output.HTTP.MaxBody <= 16<<20, "output.http.max_body", "16KiB to 16MiB"),
		e.Require(c.DLQ.Max >= 1<<20, "dlq.max", "at least 1MiB"),
		e.Require(c.Output.TLS.Min == "1.2" || c.Output.TLS.Min == "1.3", "output.tls.min", `"1.2" or "1.3"`),
		e.Require(c.Spool.Max >= 8<<20, "spool.max", "at least 8MiB"),
		e.Require(c.Spool.MinFree >= 0, "spool.min_free", "0 bytes or more"),
		e.Require(c.Buffer.Memory >= 4<<20, "buffer.memory", "at least 4MiB"),
		e.Require(c.State.Fsync > 0, "state.fsync", "more than 0s"),
		e.Require(c.Metrics.MaxServices >= 1, "metrics.max_services", "at least 1"),
		e.Require(c.Stop.Timeout > 0, "stop.timeout", "more than 0s"),
	)
}

// staticName is what a static field may be called (Graylog rule R8).
var staticName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// isReserved reports whether a static field of that name would be lost or would
// replace something else in Graylog (Graylog rule R9) or in our own messages.
func isReserved(name string) bool {
	switch name {
	case "id", "host", "source", "message", "short_message", "full_message", "timestamp", "level", "facility",
		"file", "line", "version", "streams", "event_id", "seq", replayMark:
		return true
	}
	return false
}
