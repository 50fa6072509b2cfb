package rules

import (
	"maps"
	"slices"
	"strings"

	"sidecar/internal/record"
)

// Match are the conditions of a Rule; all that are given are needed. The zero
// value matches every record.
//
// Patterns are globs for the whole text, with * for any characters, ? for one and
// [a-z] for one of a set; \ takes the next character as it is. After a "~" comes
// a regular expression (RE2) of at most 1 KiB, for any part of the text.
type Match struct {
	// Unit is a pattern for the systemd unit; a glob without a dot is for a
	// service.
	Unit string `toml:"unit"`
	// Identifier is a pattern for the syslog identifier.
	Identifier string `toml:"identifier"`
	// LevelOver matches levels less severe than that one, LevelUnder those that
	// are more severe; Level lists levels.
	LevelOver  string   `toml:"level_over"`
	LevelUnder string   `toml:"level_under"`
	Level      []string `toml:"level"`
	// Field has a pattern for each of some fields, by their names without the
	// leading underscore of GELF. A record without the field does not match.
	Field map[string]string `toml:"field"`
	// Message is a pattern for the short message.
	Message string `toml:"message"`
}

// matcher is a compiled Match; immutable.
type matcher struct {
	levels                    uint8 // bit per level
	unit, identifier, message *pattern
	fields                    []fieldPattern
}

type fieldPattern struct {
	name    *record.Name
	pattern *pattern
}

// allLevels has the bits of all levels.
const allLevels uint8 = 0xff

// all reports whether every record matches.
func (m *matcher) all() bool {
	return m.levels == allLevels && m.unit == nil && m.identifier == nil && m.message == nil && len(m.fields) == 0
}

// compile fills m; bad takes what is wrong. After a mistake m is not all().
func (m *matcher) compile(o *Match, bad func(key, format string, args ...any)) {
	m.compileLevels(o, bad)
	compile := func(key, text, suffix string) *pattern {
		p, err := newPattern(text, suffix)
		if err != nil {
			bad(key, "%w", err)
			return &pattern{}
		}
		return p
	}
	if o.Unit != "" {
		suffix := ""
		if !strings.HasPrefix(o.Unit, "~") && !strings.Contains(o.Unit, ".") {
			suffix = ".service"
		}
		m.unit = compile("match.unit", o.Unit, suffix)
	}
	if o.Identifier != "" {
		m.identifier = compile("match.identifier", o.Identifier, "")
	}
	if o.Message != "" {
		m.message = compile("match.message", o.Message, "")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Field)) {
		if wrong := knownName(name); wrong != "" {
			bad("match.field", "%s", wrong)
		}
		if o.Field[name] == "" {
			bad("match.field", `the pattern for %s is empty, and fields never are: use "*" for any value`, cut(name))
		}
		m.fields = append(m.fields, fieldPattern{record.NewName(name), compile("match.field", o.Field[name], "")})
	}
}

// compileLevels makes one set of levels of three conditions.
func (m *matcher) compileLevels(o *Match, bad func(key, format string, args ...any)) {
	m.levels = allLevels
	known := true
	levels := func(key, name string) uint8 {
		level, ok := levelOf(name)
		if !ok {
			known = false
			bad(key, "want %s, found %q", levelNames, cut(name))
		}
		return level
	}
	if o.LevelOver != "" {
		m.levels &= allLevels << levels("match.level_over", o.LevelOver) << 1
	}
	if o.LevelUnder != "" {
		m.levels &= ^(allLevels << levels("match.level_under", o.LevelUnder))
	}
	if len(o.Level) > 0 {
		listed := uint8(0)
		for _, name := range o.Level {
			listed |= 1 << levels("match.level", name)
		}
		m.levels &= listed
	}
	if m.levels == 0 && known {
		bad("match", "no level meets its conditions: level_over is for less severe ones (debug is the least), level_under for more severe ones (emerg is the most)")
	}
}

// matches reports whether all conditions hold for rec, a record of e.
func (m *matcher) matches(e *record.Entry, rec *record.Record, text *unescaper) bool {
	if m.levels>>(rec.Level&7)&1 == 0 ||
		m.unit != nil && !m.unit.match(e.Unit) ||
		m.identifier != nil && !m.identifier.match(e.Identifier) {
		return false
	}
	for i := range m.fields {
		j := find(rec, m.fields[i].name)
		if j < 0 || !m.fields[i].pattern.match(text.of(rec.Fields[j].Value)) {
			return false
		}
	}
	return m.message == nil || m.message.match(text.of(rec.Short))
}

// levelNames are the names that levelOf knows, for errors.
const levelNames = "emerg, alert, crit, error, warning, notice, info or debug"

// levelOf returns the syslog severity with this name (RFC 5424 section 6.2.1);
// err and warn are usual, too.
func levelOf(name string) (level uint8, known bool) {
	switch name {
	case "emerg":
		return 0, true
	case "alert":
		return 1, true
	case "crit":
		return 2, true
	case "error", "err":
		return 3, true
	case "warning", "warn":
		return 4, true
	case "notice":
		return 5, true
	case "info":
		return 6, true
	case "debug":
		return 7, true
	}
	return 0, false
}
