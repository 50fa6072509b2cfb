// Package rules applies an operator's rules to parsed records: drop, sample, set,
// rename and change the level of what matches, add the names that Graylog's
// searches look for (aliases), and limit the rate of each service.
//
// It is pure: no I/O, no clock, no logging; times are arguments. Rules are
// compiled once, and applying them allocates nothing. Every record that is not
// kept is counted, and those that a limit took are summed up in a record of their
// own, so that nothing disappears without a trace.
package rules

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sidecar/internal/record"
)

// Rule is one [[rule]] of the configuration.
type Rule struct {
	// Name is shown in errors and counters. Required, unique.
	Name string `toml:"name"`
	// Match says which records the rule is for.
	Match Match `toml:"match"`
	// Action is "drop", "sample", "set", "rename" or "level"; each has one key
	// of its own, below, and drop has none.
	Action string `toml:"action"`
	// Rate is the share of records that sample keeps, between 0 and 1.
	Rate float64 `toml:"rate"`
	// Set are fields that set gives a value, the old one being replaced.
	Set map[string]string `toml:"set"`
	// Rename are new names of fields by their old ones. A field keeps its name
	// if there is a field with the new one.
	Rename map[string]string `toml:"rename"`
	// To is the name of the level that a record gets.
	To string `toml:"to"`
}

// Options are the settings of New. The zero value changes nothing.
type Options struct {
	// Rules are applied in order; the first that drops a record ends that.
	Rules []Rule
	// Aliases adds the names of the Graylog schema to fields that have others
	// (winston, pino, express, ECS: res_statusCode is also http_response_code),
	// before the rules. What is there already stays.
	Aliases bool
	// Limits are applied last.
	Limits Limits
}

// Limits are the settings of the rate limit, which every unit has for itself.
// Records of level 3 (error) and more severe are neither limited nor counted.
type Limits struct {
	// Rate is in messages per second; 0 means no limit.
	Rate int
	// Burst is how many messages may come at once. 0 means ten seconds of Rate.
	Burst int
	// Summary is the time of a unit that one summary covers, more than 0.
	Summary time.Duration
}

// Error is one mistake in the Options.
type Error struct {
	// Key is the key of the configuration: "rule[0].match.unit", "limits.rate".
	Key string
	// Err says which rule, what is wrong, and what to do.
	Err error
}

// Error returns key and text.
func (e *Error) Error() string { return "set " + e.Key + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Rules are compiled rules with their counters and the state of the limit. They
// are for one goroutine, but for Counts.
type Rules struct {
	rules   []rule    // immutable after New, but for counters
	aliases *aliases  // nil: off
	limiter limiter   // owned by the caller's goroutine
	text    unescaper // scratch space
}

// rule is a compiled Rule; immutable after New, but for count.
type rule struct {
	name, action string
	match        matcher
	set          []record.Field
	rename       []renaming
	level        uint8
	keep         uint64 // a sample is kept if its hash is less
	seed         uint64 // makes the samples of different rules independent
	count        atomic.Uint64
}

// renaming is a new name for a field.
type renaming struct {
	old, new *record.Name
}

// Actions of a rule.
const (
	actionDrop   = "drop"
	actionSample = "sample"
	actionSet    = "set"
	actionRename = "rename"
	actionLevel  = "level"
)

// New compiles o. The error, if any, joins an *Error for each mistake.
func New(o Options) (*Rules, error) {
	r := &Rules{rules: make([]rule, len(o.Rules))}
	if o.Aliases {
		r.aliases = newAliases()
	}
	var errs []error
	names := map[string]bool{}
	for i := range o.Rules {
		errs = append(errs, r.rules[i].compile(i, &o.Rules[i], names)...)
	}
	errs = append(errs, r.limiter.configure(o.Limits)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

// compile fills c from rule number i and returns what is wrong with it.
func (c *rule) compile(i int, rule *Rule, names map[string]bool) (errs []error) {
	title := fmt.Sprintf("rule %d", i+1)
	if rule.Name != "" {
		title = fmt.Sprintf("rule %q", cut(rule.Name))
	}
	bad := func(key, format string, args ...any) {
		errs = append(errs, &Error{fmt.Sprintf("rule[%d].%s", i, key), fmt.Errorf("%s: %w", title, fmt.Errorf(format, args...))})
	}
	switch {
	case strings.TrimSpace(rule.Name) == "":
		bad("name", "it has no name: give it one, for counters and messages")
	case names[rule.Name]:
		bad("name", "another rule has this name: give it one of its own")
	}
	names[rule.Name] = true
	c.name, c.action, c.seed = rule.Name, rule.Action, hash(hashStart, []byte(rule.Name))
	c.match.compile(&rule.Match, bad)
	c.compileAction(rule, bad)
	return errs
}

// compileAction fills what the rule's action needs.
func (c *rule) compileAction(rule *Rule, bad func(key, format string, args ...any)) {
	given := map[string]bool{"rate": rule.Rate != 0, "set": len(rule.Set) > 0, "rename": len(rule.Rename) > 0, "to": rule.To != ""}
	needs := map[string]string{actionDrop: "", actionSample: "rate", actionSet: "set", actionRename: "rename", actionLevel: "to"}
	need, known := needs[rule.Action]
	if !known {
		bad("action", "want drop, sample, set, rename or level, found %q", cut(rule.Action))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if given[key] && key != need {
			bad(key, "the action %s does not use %s: leave it out", rule.Action, key)
		}
	}
	switch rule.Action {
	case actionDrop:
		if c.match.all() {
			bad("match", "it would drop every message: say which, such as match = { unit = \"nginx\", level_over = \"info\" }")
		}
	case actionSample:
		if !(rule.Rate > 0 && rule.Rate < 1) {
			bad("rate", "want the share of messages to keep, between 0 and 1, found %v; to keep none use action = \"drop\"", rule.Rate)
			return
		}
		c.keep = uint64(rule.Rate * math.MaxUint64)
	case actionSet:
		c.compileSet(rule.Set, bad)
	case actionRename:
		c.compileRename(rule.Rename, bad)
	case actionLevel:
		level, ok := levelOf(rule.To)
		if !ok {
			bad("to", "want %s, found %q", levelNames, cut(rule.To))
		}
		c.level = level
	}
}

func (c *rule) compileSet(set map[string]string, bad func(key, format string, args ...any)) {
	if len(set) == 0 {
		bad("set", `no field is given: say which, such as set = { team = "web" }`)
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		value := set[name]
		if wrong := newName(name); wrong != "" {
			bad("set", "%s", wrong)
		}
		switch {
		case strings.TrimFunc(value, isBlank) == "":
			bad("set", "the value of %s is blank, which Graylog drops: give it a text", cut(name))
		case len(value) > maxValueBytes:
			bad("set", "the value of %s has %d bytes: shorten it to %d", cut(name), len(value), maxValueBytes)
		}
		c.set = append(c.set, record.Field{Name: record.NewName(name), Value: record.Value{Kind: record.Text, Bytes: []byte(value)}})
	}
}

func (c *rule) compileRename(rename map[string]string, bad func(key, format string, args ...any)) {
	if len(rename) == 0 {
		bad("rename", `no field is given: say which, such as rename = { reqId = "request_id" }`)
	}
	target := map[string]bool{}
	for _, old := range slices.Sorted(maps.Keys(rename)) {
		name := rename[old]
		if wrong := knownName(old); wrong != "" {
			bad("rename", "%s", wrong)
		}
		if wrong := newName(name); wrong != "" {
			bad("rename", "%s", wrong)
		}
		switch {
		case old == name:
			bad("rename", "%s gets the name that it has: leave it out", cut(old))
		case target[name]:
			bad("rename", "two fields get the name %s: use a rule for each, in the order of preference", cut(name))
		}
		target[name] = true
		c.rename = append(c.rename, renaming{record.NewName(old), record.NewName(name)})
	}
}

// Apply applies aliases, rules and limits to r, a record of e, in place, and
// reports whether it is to be shipped.
//
// The names and values that it adds belong to the Rules, or are those that r had
// before: they stay valid as long as both. The time of the limit is that of e,
// so what has waited is not limited for coming late.
func (r *Rules) Apply(e *record.Entry, rec *record.Record) (keep bool) {
	if r.aliases != nil {
		r.aliases.add(rec)
	}
	for i := range r.rules {
		c := &r.rules[i]
		if c.match.matches(e, rec, &r.text) && !c.do(e, rec) {
			return false
		}
	}
	return r.limiter.allow(e, rec)
}

// do carries out the action on a record that matches.
func (c *rule) do(e *record.Entry, rec *record.Record) (keep bool) {
	switch c.action {
	case actionDrop:
		c.count.Add(1)
		return false
	case actionSample:
		id := rec.ID
		if len(id) == 0 { // outside of shipping
			id = e.Message
		}
		if mix(hash(c.seed, id)) < c.keep {
			return true
		}
		c.count.Add(1)
		return false
	case actionSet:
		for i := range c.set {
			setField(rec, c.set[i].Name, c.set[i].Value)
		}
	case actionRename:
		for i := range c.rename {
			old := find(rec, c.rename[i].old)
			if old < 0 || find(rec, c.rename[i].new) >= 0 {
				continue
			}
			rec.Fields[old].Name = c.rename[i].new
		}
	case actionLevel:
		rec.Level = c.level
	}
	c.count.Add(1)
	return true
}

// find returns the index of the field with this name, or -1.
func find(rec *record.Record, name *record.Name) int {
	for i := range rec.Fields {
		if n := rec.Fields[i].Name; n == name || bytes.Equal(n.Bytes(), name.Bytes()) {
			return i
		}
	}
	return -1
}

// setField gives a field a value, and adds it if there is none.
func setField(rec *record.Record, name *record.Name, v record.Value) {
	if i := find(rec, name); i >= 0 {
		rec.Fields[i].Value = v
		return
	}
	rec.Fields = append(rec.Fields, record.Field{Name: name, Value: v})
}

// Count is what a rule, or the limit, has done since New. Records that are read
// again count again.
type Count struct {
	// Rule is the name of the rule; empty for the limit.
	Rule string
	// Reason is the rule's action, or "limit".
	Reason string
	// Dropped says whether the records were left out: by drop, sample and limit.
	Dropped bool
	// Records is their number; for sample those that were left out.
	Records uint64
}

// Counts appends the counts of all rules in their order and of the limit to dst.
// It may be called at any time by any goroutine.
func (r *Rules) Counts(dst []Count) []Count {
	for i := range r.rules {
		c := &r.rules[i]
		dst = append(dst, Count{c.name, c.action, c.action == actionDrop || c.action == actionSample, c.count.Load()})
	}
	return append(dst, Count{"", "limit", true, r.limiter.count.Load()})
}

const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

// hash continues an FNV-1a hash of 64 bits.
func hash(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * hashPrime
	}
	return h
}

// mix spreads a hash over all its bits (the finalizer of MurmurHash3): the high
// bits of FNV-1a hardly depend on the last bytes, which is where event ids differ.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
