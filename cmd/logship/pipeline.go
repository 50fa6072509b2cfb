package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sidecar/internal/cli"
	"sidecar/internal/gelf"
	"sidecar/internal/guard"
	"sidecar/internal/journal"
	"sidecar/internal/parse"
	"sidecar/internal/redact"
	"sidecar/internal/ship"
)

// places returns the journal directories to read.
func (c *Config) places() ([]journal.Place, error) {
	dir := c.Input.Journald.Directory
	if dir == "" {
		places, err := journal.SystemPlaces()
		if err != nil {
			return nil, cli.WithCode(cli.ExitNoJournal, err)
		}
		for i := range places {
			places[i].Namespaces = c.Input.Journald.Namespaces
		}
		return places, nil
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, cli.WithCode(cli.ExitPermission, fmt.Errorf("open input.journald.directory: %w", err))
	case err != nil:
		return nil, cli.WithCode(cli.ExitNoJournal, fmt.Errorf("open input.journald.directory: %w", err))
	case !info.IsDir():
		return nil, cli.WithCode(cli.ExitNoJournal, fmt.Errorf("open input.journald.directory: %s is not a directory", dir))
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
