package guard

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Kind is what the values of a field are.
type Kind uint8

const (
	// String fields have any text, and numbers as strings.
	String Kind = iota
	// Number fields have JSON numbers and numeric strings within int64, decimals
	// included.
	Number
	// Date fields have ISO 8601 dates, with or without a time, as
	// strict_date_optional_time takes them.
	Date
	// SlashDate fields have dates as yyyy/MM/dd or yyyy/MM/dd HH:mm:ss. To an index
	// they are of another format than Date fields and refuse their values.
	SlashDate
)

// String returns the kind's word in a table: "string", "number", "date" or
// "slash-date".
func (k Kind) String() string {
	switch k {
	case String:
		return "string"
	case Number:
		return "number"
	case Date:
		return "date"
	case SlashDate:
		return "slash-date"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// parseKind returns the kind with that word.
func parseKind(word string) (Kind, bool) {
	for k := String; k <= SlashDate; k++ {
		if k.String() == word {
			return k, true
		}
	}
	return 0, false
}

// Table holds the kind of each known field by its name, without the leading
// underscore of GELF. The zero value, and for reading nil, is an empty table.
//
// As text it is one line for each field, sorted by name, so that differences are
// easy to read and to merge:
//
//	logship-types 1
//	amount number
//	created_at date
//	user_name string
//
// The first line has the version of the format. Whoever writes a table by hand may
// sort it otherwise, add blanks and blank lines, and lines that begin with "#".
type Table struct {
	kinds map[string]Kind
}

const (
	tableMagic   = "logship-types"
	tableVersion = 1
	// maxNameBytes is more than parsing makes (512) with its suffixes and ours.
	maxNameBytes = 1024
)

var (
	// ErrBadTable means that the text is not a table.
	ErrBadTable = errors.New("types: damaged table")
	// ErrNewerTable means that the table was written by a newer logship.
	ErrNewerTable = errors.New("types: table of a newer version")
)

// Len returns the number of fields.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return len(t.kinds)
}

// Kind returns the kind of the field with that name, and whether it is known.
func (t *Table) Kind(name string) (Kind, bool) {
	if t == nil {
		return String, false
	}
	k, ok := t.kinds[name]
	return k, ok
}

// All returns every name and its kind, sorted by name.
func (t *Table) All() iter.Seq2[string, Kind] {
	return func(yield func(string, Kind) bool) {
		if t == nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(t.kinds)) {
			if !yield(name, t.kinds[name]) {
				return
			}
		}
	}
}

// put sets the kind of a name that isName accepts.
func (t *Table) put(name string, kind Kind) {
	if t.kinds == nil {
		t.kinds = make(map[string]Kind)
	}
	t.kinds[name] = kind
}

// AppendText appends the table as text to dst and returns it; the error is always
// nil. The same table is the same text.
func (t *Table) AppendText(dst []byte) ([]byte, error) {
	dst = append(dst, tableMagic+" "...)
	dst = strconv.AppendInt(dst, tableVersion, 10)
	dst = append(dst, '\n')
	for name, kind := range t.All() {
		dst = append(dst, name...)
		dst = append(dst, ' ')
		dst = append(dst, kind.String()...)
		dst = append(dst, '\n')
	}
	return dst, nil
}

// ParseTable returns the table that text holds.
//
// It returns ErrBadTable, with the line, if the text is not a whole table, and
// ErrNewerTable if its version is above what this logship knows.
func ParseTable(text []byte) (*Table, error) {
	t := new(Table)
	number, begun := 0, false
	for line := range bytes.Lines(text) {
		number++
		words := strings.Fields(string(line[:min(len(line), 2*maxNameBytes)]))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		var err error
		if begun {
			err = t.parseField(words)
		} else {
			err = parseVersion(words)
		}
		if errors.Is(err, ErrNewerTable) {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrBadTable, number, err)
		}
		begun = true
	}
	if !begun {
		return nil, fmt.Errorf("%w: no line %q", ErrBadTable, tableMagic+" 1")
	}
	return t, nil
}

// parseVersion checks the words of the first line.
func parseVersion(words []string) error {
	if words[0] != tableMagic || len(words) < 2 || !areDigits([]byte(words[1])) {
		return fmt.Errorf("want %q, found %q", tableMagic+" 1", cut(strings.Join(words, " ")))
	}
	version, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil || version > tableVersion { // digits only: an error means out of range
		return fmt.Errorf("%w: %s, this logship knows up to %d", ErrNewerTable, cut(words[1]), tableVersion)
	}
	if version < 1 || len(words) > 2 {
		return fmt.Errorf("want %q, found %q", tableMagic+" 1", cut(strings.Join(words, " ")))
	}
	return nil
}

// parseField adds the field of one line.
func (t *Table) parseField(words []string) error {
	if len(words) != 2 {
		return fmt.Errorf("want a name and a kind, found %q", cut(strings.Join(words, " ")))
	}
	kind, ok := parseKind(words[1])
	switch {
	case !ok:
		return fmt.Errorf("want string, number, date or slash-date, found %q", cut(words[1]))
	case !isName(words[0]):
		return fmt.Errorf("%q is not a field's name", cut(words[0]))
	}
	if _, twice := t.kinds[words[0]]; twice {
		return fmt.Errorf("%q stands twice", cut(words[0]))
	}
	t.put(words[0], kind)
	return nil
}

// isName reports whether a record's field may have the name (Graylog rule R8).
func isName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != "" && len(name) <= maxNameBytes
}

// cut returns the beginning of foreign text for an error.
func cut(s string) string { return s[:min(len(s), 64)] }

// Merge returns a table with the fields of all tables, and the names of those
// that are not of the same kind in all tables that have them, sorted. These are
// strings in the merged table: a string is never refused (graylog.md 1.6).
func Merge(tables ...*Table) (merged *Table, conflicts []string) {
	merged = new(Table)
	different := map[string]bool{}
	for _, t := range tables {
		for name, kind := range t.All() {
			if other, ok := merged.Kind(name); ok && other != kind {
				different[name] = true
				kind = String
			}
			merged.put(name, kind)
		}
	}
	return merged, slices.Sorted(maps.Keys(different))
}

// Diff returns the names of the fields that only one table has, or that have
// different kinds, sorted.
func Diff(a, b *Table) []string {
	different := map[string]bool{}
	for _, pair := range [2][2]*Table{{a, b}, {b, a}} {
		for name, kind := range pair[0].All() {
			if other, ok := pair[1].Kind(name); !ok || other != kind {
				different[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(different))
}
