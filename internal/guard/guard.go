// Package guard keeps the values of each field to one type, so that no message
// is lost to a conflict with the type that the index has for the field.
//
// OpenSearch gives a field the type of the first value that it sees in an index:
// a whole number makes it long, a decimal float, a string that looks like a date
// makes it date, any other string keyword (graylog.md 1.6). A later message with
// a value that this type cannot hold is lost as a whole. Graylog starts a new
// index every day or so, and then any later value may be the first one. So it is
// not enough that a value fits the type of the field as first seen. The guard
// sends, under one name, only values that get along in any order:
//
//   - number: JSON numbers and numeric strings within the range of long. If a
//     numeric string comes first, the field is keyword, which takes numbers too.
//   - date, slash-date: strings that date detection certainly takes, all of them
//     in the same format.
//   - string: every other string, and numbers written as strings, which search the
//     same. A string that date detection might take is written as its JSON text,
//     with the quotes in it: `"2026-11-20"`. Nothing takes that for a date.
//
// A value that its field cannot have moves to the field <name>_str, which is a
// string, and the field keeps its type. The kind of a new field is that of its
// first value. A date in a new field makes it a date: other values then move
// away, so nothing is lost whatever follows. A year and month alone ("2026-11") is
// more often a number of something: it makes a string.
//
// The guard sees one machine. Machines that ship to the same index should share
// one Table; `logship types merge` makes it.
package guard

import (
	"bytes"
	"fmt"
	"strconv"
	"sync/atomic"

	"sidecar/internal/record"
)

// Mode says what a Guard does.
type Mode uint8

const (
	// Learn remembers the kind of each field as first seen.
	Learn Mode = iota
	// Strict learns nothing: fields that no table has are strings.
	Strict
	// Off leaves every record as it is.
	Off
)

// ParseMode returns the Mode with that name: "learn", "strict" or "off".
func ParseMode(name string) (Mode, error) {
	switch name {
	case "learn":
		return Learn, nil
	case "strict":
		return Strict, nil
	case "off":
		return Off, nil
	}
	return Off, fmt.Errorf("types mode %q: want learn, strict or off", name)
}

// DefaultMaxNames is the default of Options.MaxNames. An index has room for 1,000
// fields (graylog.md 1.6, index.mapping.total_fields.limit).
const DefaultMaxNames = 2000

// Options are the settings of a Guard. The zero value learns from nothing.
type Options struct {
	// Mode is what the guard does with fields that no table has.
	Mode Mode
	// Table is what was learned before. It is copied. nil means nothing.
	Table *Table
	// Shared is a table of the whole fleet: it wins over what was learned, and is
	// never changed. It is copied. nil means none.
	Shared *Table
	// MaxNames is how many names are learned, those of Table included and those of
	// Shared not. Fields with further new names are strings, which no index refuses.
	// Default DefaultMaxNames.
	MaxNames int
	// OnConflict is called for the first value of each field that had to be moved
	// or quoted, from within Apply. was is the field's kind, is what came: "text",
	// "number", "number beyond long", "date", "slash-date" or "date-like text". nil
	// means nobody wants to know.
	OnConflict func(field, was, is string)
}

// Counts are totals since New, and the number of names now.
type Counts struct {
	// Names is how many names the guard knows, the shared table's included.
	Names uint64
	// Diverted is how many values moved to <field>_str.
	Diverted uint64
	// Quoted is how many values were written as their JSON text because date
	// detection might have taken them.
	Quoted uint64
	// Unlearned is how many values had a name that is in no table and could not be
	// learned: strict mode, or more names than MaxNames.
	Unlearned uint64
}

// Guard applies the kinds of a table to records, and learns new ones.
//
// Counts may be called at any time, all other methods by one goroutine at a time.
type Guard struct {
	mode       Mode
	maxNames   int
	onConflict func(field, was, is string)
	fields     map[string]*field
	unlearned  *field // stands for all names that cannot be learned
	learned    int    // of fields, those that are not shared
	saved      int    // of learned, as of the last call of Saved
	memo       record.NameMemo[memo]
	tmp        []byte // scratch space of one step

	names, diverted, quoted, unlearnedCount atomic.Uint64
}

// memo is what the guard remembers by a name's address.
type memo struct {
	field *field
	fits  record.LastValue // as the field's kind wants it
}

// field is what is known of a name.
type field struct {
	name     string
	kind     Kind
	shared   bool
	reported bool
	moved    *record.Name // name, once a value has moved to it
}

// New returns a Guard that knows the tables of o.
func New(o Options) *Guard {
	if o.MaxNames <= 0 {
		o.MaxNames = DefaultMaxNames
	}
	g := &Guard{
		mode: o.Mode, maxNames: o.MaxNames, onConflict: o.OnConflict,
		fields:    make(map[string]*field),
		unlearned: &field{kind: String, reported: true},
	}
	for name, kind := range o.Shared.All() {
		g.fields[name] = &field{name: name, kind: kind, shared: true}
	}
	for name, kind := range o.Table.All() {
		if g.fields[name] == nil {
			g.fields[name] = &field{name: name, kind: kind}
			g.learned++
		}
	}
	g.saved = g.learned
	g.names.Store(uint64(len(g.fields)))
	return g
}

// Counts returns the totals so far. It may be called from any goroutine.
func (g *Guard) Counts() Counts {
	return Counts{
		Names: g.names.Load(), Diverted: g.diverted.Load(), Quoted: g.quoted.Load(), Unlearned: g.unlearnedCount.Load(),
	}
}

// Dirty reports whether names were learned that are not saved. If the table is
// saved before the position behind the records that taught it, a crash forgets
// only what the same records will teach again.
func (g *Guard) Dirty() bool { return g.learned > g.saved }

// Snapshot returns what was learned, without what the shared table has. The
// caller owns the table; it does not change any more.
func (g *Guard) Snapshot() *Table {
	t := new(Table)
	for name, f := range g.fields {
		if !f.shared {
			t.put(name, f.kind)
		}
	}
	return t
}

// Saved tells the guard that t, which Snapshot returned, is stored. What was
// learned since then is still Dirty.
func (g *Guard) Saved(t *Table) { g.saved = t.Len() }

// Apply makes the fields of r such that no value can conflict with the type
// that an index has for its field. It changes r in place: values and names, never
// the number or the order of fields. New bytes are made in r.Scratch. Names stay
// unique. Applying it again changes nothing.
func (g *Guard) Apply(r *record.Record) {
	if g.mode == Off {
		return
	}
	for i := range r.Fields {
		v := &r.Fields[i].Value
		m, _ := g.memo.At(r.Fields[i].Name)
		if m.field == nil || m.field == g.unlearned { // whose values are counted one by one
			*m = memo{field: g.field(r.Fields[i].Name, v)}
		}
		if m.fits.Is(v) {
			continue
		}
		f := m.field
		if f.kind == String && v.Kind == record.Number {
			// Where a number comes first in a new index, all text after it is lost.
			v.Kind = record.Text
			continue
		}
		s := shapeOf(*v)
		if f.kind.holds(s) {
			m.fits.Set(v)
			continue
		}
		g.report(f, s)
		if f.kind != String {
			g.divert(r, i)
		}
		if v.Kind == record.Number {
			v.Kind = record.Text
		} else if s.dateLike() {
			g.quote(r, v)
		}
	}
}

// field returns what is known of a name. v is its first value if that is nothing.
func (g *Guard) field(name *record.Name, v *record.Value) *field {
	if f := g.fields[string(name.Bytes())]; f != nil {
		return f
	}
	return g.add(name.String(), kindOf(shapeOf(*v)))
}

// add remembers a new name, if there is room.
func (g *Guard) add(name string, kind Kind) *field {
	if g.mode != Learn || g.learned >= g.maxNames || !isName(name) {
		g.unlearnedCount.Add(1)
		return g.unlearned
	}
	f := &field{name: name, kind: kind}
	g.fields[f.name] = f
	g.learned++
	g.names.Add(1)
	return f
}

// report tells of the first value of a field that its kind does not hold.
func (g *Guard) report(f *field, s shape) {
	if !f.reported && g.onConflict != nil {
		g.onConflict(f.name, f.kind.String(), s.String())
	}
	f.reported = true
}

// divert renames field i to <name>_str, or <name>_str_2 and so on if the record
// has such a field or the field is known as something other than a string.
func (g *Guard) divert(r *record.Record, i int) {
	g.tmp = append(append(g.tmp[:0], r.Fields[i].Name.Bytes()...), "_str"...)
	end := len(g.tmp)
	for n := int64(2); ; n++ {
		if !isTaken(r.Fields, g.tmp) {
			f := g.fields[string(g.tmp)]
			if f == nil {
				f = g.add(string(g.tmp), String)
			}
			if f.kind == String {
				r.Fields[i].Name = g.name(f)
				g.diverted.Add(1)
				return
			}
		}
		g.tmp = strconv.AppendInt(append(g.tmp[:end], '_'), n, 10)
	}
}

// name returns the text of g.tmp as a name, that of f if it is known.
func (g *Guard) name(f *field) *record.Name {
	if f == g.unlearned {
		return record.NewName(g.tmp)
	}
	if f.moved == nil {
		f.moved = record.NewName(f.name)
	}
	return f.moved
}

// isTaken reports whether one of fields has the name.
func isTaken(fields []record.Field, name []byte) bool {
	for i := range fields {
		if bytes.Equal(fields[i].Name.Bytes(), name) {
			return true
		}
	}
	return false
}

// quote writes a string that date detection might take as JSON text. Blanks at
// its ends, which Graylog would trim and here could not, are left out.
func (g *Guard) quote(r *record.Record, v *record.Value) {
	var buf [maxPlain]byte
	text, _ := plain(*v, &buf)
	start := len(r.Scratch)
	r.Scratch = append(r.Scratch, '"')
	r.Scratch = append(r.Scratch, text...)
	r.Scratch = append(r.Scratch, '"')
	*v = record.Value{Kind: record.Text, Bytes: r.Scratch[start:len(r.Scratch):len(r.Scratch)]}
	g.quoted.Add(1)
}
