package journal

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// FilterOptions say which entries are wanted, with the meaning that journalctl(1)
// gives to its options. What is empty does not restrict; the rest must all hold.
type FilterOptions struct {
	// Units are what `journalctl --unit` takes: names of system units, a name
	// without a known suffix meaning a service, or patterns with the wildcards *, ?
	// and [a-z]. An entry belongs to a unit if its processes wrote it, if PID 1 or
	// another process of root wrote it about the unit (started, stopped, out of
	// memory), or if it reports a coredump of the unit.
	Units []string
	// UserUnits are the same for units of users' service managers, but of every
	// user, where `journalctl --user-unit` takes those of its caller.
	UserUnits []string
	// Identifiers are values of SYSLOG_IDENTIFIER (journalctl --identifier).
	Identifiers []string
	// Priority is what `journalctl --priority` takes: "emerg" to "debug", 0 to 7,
	// which include what is more severe, or a range FROM..TO. Entries without a
	// priority are then left out, unless the range is that of all priorities.
	Priority string
	// Matches are FIELD=value terms: of one field either value, of several fields
	// all; an element "+" separates alternatives.
	Matches []string
	// Exclude are units, written like Units, whose own entries are left out. What
	// others say about them stays.
	Exclude []string
	// OwnUnit is the unit that the shipper runs as, system or user, "" if none: its
	// entries are left out, else every line that it logs could make it log another.
	OwnUnit string
}

// Filter decides which entries are wanted. It does not change and may be shared.
//
// A filter is a conjunction of disjunctions of terms, as sd-journal's matches are
// (sd_journal_add_match(3)); a term is a set of conditions on one field each. A
// condition has a bit. Whether a value meets a condition is decided once for each
// value that journald stores, the value cache keeps the bits, and an entry's are
// those of all its values together: so a filter costs one OR for each field of an
// entry, and a few comparisons at its end.
type Filter struct {
	conditions map[string][]condition // by field
	count      int
	groups     [][]uint64 // of each group some term has to hold, that is: all bits of it
	excluded   uint64     // none of these conditions may hold
}

// condition is met by a field that has one of these values or fits a pattern.
type condition struct {
	bit      uint64
	values   map[string]bool
	patterns []string // of path.Match
}

// maxConditions is how many conditions a Filter can have: the bits of a word.
const maxConditions = 64

// NewFilter compiles a filter. Its error says what cannot be understood, or that
// there are more than 64 conditions: one for each field of each alternative of
// Matches, and at most 17 for the rest.
func NewFilter(o FilterOptions) (*Filter, error) {
	f := &Filter{conditions: map[string][]condition{}}
	err := errors.Join(
		f.addUnits(o.Units, o.UserUnits),
		f.addPriority(o.Priority),
		f.addMatches(o.Matches),
		f.addExclusions(o.Exclude, o.OwnUnit),
	)
	if len(o.Identifiers) > 0 {
		f.groups = append(f.groups, []uint64{f.condition("SYSLOG_IDENTIFIER", o.Identifiers, nil)})
	}
	if err == nil && f.count > maxConditions {
		err = fmt.Errorf("%d conditions, at most %d are possible", f.count, maxConditions)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// condition adds a condition and returns its bit.
func (f *Filter) condition(field string, values, patterns []string) uint64 {
	c := condition{bit: 1 << f.count, values: map[string]bool{}, patterns: patterns}
	for _, v := range values {
		c.values[v] = true
	}
	f.count++ // beyond maxConditions the bit is 0 and NewFilter refuses
	f.conditions[field] = append(f.conditions[field], c)
	return c.bit
}

// coredumpMessageID is the MESSAGE_ID of coredumps (SD_MESSAGE_COREDUMP in
// sd-messages.h).
const coredumpMessageID = "fc2e22bc6ee647b6b90729ab34a250b1"

// addUnits adds a group for units and user units: one of either. Who is trusted to
// speak about a unit is what journalctl trusts (journalctl(1), --unit): PID 1, and
// processes of root.
func (f *Filter) addUnits(units, userUnits []string) error {
	var group []uint64
	names, patterns, err := unitNames(units)
	if len(units) > 0 {
		root := f.condition("_UID", []string{"0"}, nil)
		group = append(group,
			f.condition("_SYSTEMD_UNIT", names, patterns),
			f.condition("COREDUMP_UNIT", names, patterns)|root|f.condition("MESSAGE_ID", []string{coredumpMessageID}, nil),
			f.condition("UNIT", names, patterns)|f.condition("_PID", []string{"1"}, nil),
			f.condition("OBJECT_SYSTEMD_UNIT", names, patterns)|root)
		group = f.appendSlices(group, "_SYSTEMD_SLICE", names, patterns)
	}
	names, patterns, userErr := unitNames(userUnits)
	if len(userUnits) > 0 {
		for _, field := range []string{"_SYSTEMD_USER_UNIT", "USER_UNIT", "COREDUMP_USER_UNIT", "OBJECT_SYSTEMD_USER_UNIT"} {
			group = append(group, f.condition(field, names, patterns))
		}
		group = f.appendSlices(group, "_SYSTEMD_USER_SLICE", names, patterns)
	}
	if group != nil {
		f.groups = append(f.groups, group)
	}
	return errors.Join(err, userErr)
}

// appendSlices appends the term for everything inside of a slice, if there is a
// slice among the units.
func (f *Filter) appendSlices(group []uint64, field string, names, patterns []string) []uint64 {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return path.Ext(name) != ".slice" })
	patterns = slices.DeleteFunc(slices.Clone(patterns), func(p string) bool { return path.Ext(p) != ".slice" })
	if len(names)+len(patterns) == 0 {
		return group
	}
	return append(group, f.condition(field, names, patterns))
}

// addPriority adds a group for priorities.
func (f *Filter) addPriority(s string) error {
	if s == "" {
		return nil
	}
	from, to, isRange := strings.Cut(s, "..")
	if !isRange {
		from, to = "emerg", s
	}
	low, ok := priority(from)
	high, okHigh := priority(to)
	if !ok || !okHigh {
		return fmt.Errorf(`%.64q is not a priority: want "emerg" to "debug", 0 to 7, or a range "FROM..TO"`, s)
	}
	low, high = min(low, high), max(low, high)
	if low == 0 && high == 7 {
		return nil // as journalctl does
	}
	var values []string
	for p := low; p <= high; p++ {
		values = append(values, strconv.Itoa(p))
	}
	f.groups = append(f.groups, []uint64{f.condition("PRIORITY", values, nil)})
	return nil
}

// priority returns the number of a syslog severity, by number or by one of the
// names of syslog(3).
func priority(s string) (int, bool) {
	p := slices.Index([]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}, s)
	if p < 0 && len(s) == 1 {
		p = int(s[0]) - '0'
	}
	return p, p >= 0 && p <= 7
}

// addMatches adds a group for matches: their alternatives.
func (f *Filter) addMatches(matches []string) error {
	var group []uint64
	for _, terms := range split(matches, "+") {
		if len(terms) == 0 && len(matches) > 0 {
			return errors.New(`a "+" needs matches on both sides`)
		}
		fields := map[string][]string{}
		for _, m := range terms {
			field, value, found := strings.Cut(m, "=")
			if !found || !isFieldName(field) {
				return fmt.Errorf("%.64q is not a match: want FIELD=value", m)
			}
			fields[field] = append(fields[field], value)
		}
		term := uint64(0)
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			term |= f.condition(field, fields[field], nil)
		}
		group = append(group, term)
	}
	if len(matches) > 0 {
		f.groups = append(f.groups, group)
	}
	return nil
}

// split cuts list at every element that is sep.
func split(list []string, sep string) [][]string {
	var parts [][]string
	for {
		i := slices.Index(list, sep)
		if i < 0 {
			return append(parts, list)
		}
		parts, list = append(parts, list[:i]), list[i+1:]
	}
}

// isFieldName reports whether journald accepts fields of that name: upper-case
// letters, digits and underscores, no digit first, at most 64 bytes
// (systemd.journal-fields(7)).
func isFieldName(s string) bool {
	return s != "" && len(s) <= 64 && (s[0] < '0' || s[0] > '9') &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// addExclusions adds what is left out.
func (f *Filter) addExclusions(units []string, own string) error {
	names, patterns, err := unitNames(units)
	if own != "" {
		names = append(names, own)
		f.excluded |= f.condition("_SYSTEMD_USER_UNIT", []string{own}, nil)
	}
	if len(names)+len(patterns) > 0 {
		f.excluded |= f.condition("_SYSTEMD_UNIT", names, patterns)
	}
	return err
}

// unitNames sorts units into names and patterns. A name without the suffix of a
// unit type is a service; a pattern is taken as it is, as systemctl(1) does.
func unitNames(units []string) (names, patterns []string, err error) {
	// Patterns are those of fnmatch(3) without escapes: backslashes are a part of
	// unit names, as in dev-disk-by\x2dlabel-data.device.
	fnmatch := strings.NewReplacer(`\`, `\\`, "[!", "[^")
	for _, unit := range units {
		switch {
		case unit == "" || strings.Trim(unit, unitCharacters+"*?[]!^") != "":
			return nil, nil, fmt.Errorf("%.64q is not the name of a unit", unit)
		case !strings.ContainsAny(unit, "*?[]!^"):
			if !slices.Contains(unitSuffixes(), path.Ext(unit)) {
				unit += ".service"
			}
			names = append(names, unit)
		default:
			pattern := fnmatch.Replace(unit)
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, nil, fmt.Errorf("%.64q is not a pattern: * ? and [a-z] are wildcards", unit)
			}
			patterns = append(patterns, pattern)
		}
	}
	return names, patterns, nil
}

// unitCharacters are those of unit names (systemd.unit(5)).
const unitCharacters = `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\@`

func unitSuffixes() []string {
	return []string{".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope"}
}

// bitsOf returns the bits of those conditions that value meets.
func bitsOf(conditions []condition, value []byte) uint64 {
	bits := uint64(0)
	for i := range conditions {
		if conditions[i].met(value) {
			bits |= conditions[i].bit
		}
	}
	return bits
}

func (c *condition) met(value []byte) bool {
	if c.values[string(value)] {
		return true
	}
	return slices.ContainsFunc(c.patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, string(value)) // NewFilter has tried it
		return ok
	})
}

// wants reports whether e is wanted. Of an entry with damaged fields it is not
// known what it says: that it may be unwanted is no reason to lose it.
func (f *Filter) wants(e *Entry) bool {
	if f == nil {
		return true
	}
	if e.met&f.excluded != 0 {
		return false
	}
	for _, group := range f.groups {
		if e.Damaged == 0 && !slices.ContainsFunc(group, func(term uint64) bool { return e.met&term == term }) {
			return false
		}
	}
	return true
}
