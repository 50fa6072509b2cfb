package settings

import (
	"bufio"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Explain returns the value of a key as TOML and where it came from. key is
// dotted as Dump and errors write it ("output.url", `parse.rename."req.id"`,
// "rule[0].action"). Secrets are shown as their reference. It returns an *Error
// with a suggestion if there is no such key, or if it is a table of several.
func (e *Effective) Explain(key string) (value string, origin Origin, err error) {
	key = strings.TrimSpace(key)
	var paths []string
	var found reflect.Value
	visit(e.root, "", func(path string, v reflect.Value) {
		paths = append(paths, path)
		if path == key {
			found = v
		}
	})
	switch {
	case !found.IsValid():
		hint := ""
		if best := cmp.Or(Nearest(key, paths, min((len(key)+1)/3, 4)), sameName(key, paths)); best != "" {
			hint = "; did you mean " + best + "?"
		}
		return "", Origin{}, &Error{Err: fmt.Errorf("explain %s: unknown key%s", cut(key), hint)}
	case found.Kind() == reflect.Struct && !isText(found.Type()):
		var keys []string
		for _, f := range fields(found.Type()) {
			keys = append(keys, joinKey(key, f.name))
		}
		return "", Origin{}, &Error{Err: fmt.Errorf("explain %s: it is a table, choose one of %s", key,
			list(keys, func(s string) string { return s }))}
	}
	return inline(found), e.origins[key], nil
}

// Errorf returns an *Error about a key, for what the daemon itself finds wrong
// with a value. It names the place where the value was set, or for a key that is
// missing in an element of an array or map the place of the element; none if that
// is the compiled default. The text should read as those of Load: want …, found ….
func (e *Effective) Errorf(key, format string, args ...any) error {
	err := &Error{Key: key, Err: fmt.Errorf(format, args...)}
	for path := key; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		if origin, ok := e.origins[path]; ok {
			err.Origin = origin
			break
		}
	}
	return err
}

// Require returns nil if ok, else an error that says what the value of key has to be,
// such as "at least 1".
func (e *Effective) Require(ok bool, key, want string) error {
	if ok {
		return nil
	}
	value, _, err := e.Explain(key)
	return errors.Join(err, e.Errorf(key, "want %s, found %s", want, value))
}

// Dump writes the whole configuration as TOML that loads back to the same
// values, with the origin of each key in a comment. Secrets are written as their
// references. It shows the struct as it is now, changes after Load included.
func (e *Effective) Dump(w io.Writer) error {
	d := dumper{w: bufio.NewWriter(w), origins: e.origins}
	for _, f := range e.files {
		d.line("# read " + oneLine(f))
	}
	d.table(e.root, "", "")
	return d.w.Flush()
}

// item is one key of a table.
type item struct {
	key   string
	value reflect.Value
}

// items returns the keys of a struct in the order of its fields, or those of a
// map in alphabetical order.
func items(v reflect.Value) []item {
	var list []item
	if v.Kind() == reflect.Struct {
		for _, f := range fields(v.Type()) {
			list = append(list, item{f.name, v.Field(f.index)})
		}
		return list
	}
	for _, k := range v.MapKeys() {
		list = append(list, item{k.String(), v.MapIndex(k)})
	}
	slices.SortFunc(list, func(a, b item) int { return strings.Compare(a.key, b.key) })
	return list
}

// visit calls f for every key in a table and in those below it.
func visit(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	for _, it := range items(v) {
		p := joinKey(path, it.key)
		f(p, it.value)
		switch t := it.value.Type(); {
		case isTable(t):
			visit(it.value, p, f)
		case isTableArray(t):
			for i := range it.value.Len() {
				f(joinIndex(p, i), it.value.Index(i))
				visit(it.value.Index(i), joinIndex(p, i), f)
			}
		}
	}
}

// dumper writes a configuration; the writer keeps the first error.
type dumper struct {
	w       *bufio.Writer
	origins map[string]Origin
}

func (d *dumper) line(s string) { _, _ = d.w.WriteString(s + "\n") }

// table writes the content of a table: plain keys first, as all that follows a
// header belongs to it. path is the key as in origins, header as in [header].
func (d *dumper) table(v reflect.Value, path, header string) {
	var plain, tables []item
	for _, it := range items(v) {
		if t := it.value.Type(); isTable(t) || isTableArray(t) && it.value.Len() > 0 {
			tables = append(tables, it)
		} else {
			plain = append(plain, it)
		}
	}
	// The caller has written the header of an array's element already.
	if header != "" && !strings.HasSuffix(path, "]") && (len(plain) > 0 || len(tables) == 0) {
		d.line("\n[" + header + "]")
	}
	for _, it := range plain {
		d.line(fmt.Sprintf("%s = %s  # %s", joinKey("", it.key), inline(it.value), d.origins[joinKey(path, it.key)]))
	}
	for _, it := range tables {
		p, h := joinKey(path, it.key), joinKey(header, it.key)
		if isTable(it.value.Type()) {
			d.table(it.value, p, h)
			continue
		}
		for i := range it.value.Len() {
			d.line("\n[[" + h + "]]")
			d.table(it.value.Index(i), joinIndex(p, i), h)
		}
	}
}

// inline returns any value as TOML on one line.
func inline(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil { // of the daemon's own types: a value that it must not hold
			text = []byte(err.Error())
		}
		return quote(string(text))
	}
	switch k := v.Kind(); {
	case k == reflect.String:
		return quote(v.String())
	case k == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	case v.CanFloat():
		return formatFloat(v.Float(), v.Type().Bits())
	case k == reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = inline(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	var parts []string
	for _, it := range items(v) {
		parts = append(parts, joinKey("", it.key)+" = "+inline(it.value))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// formatFloat returns a TOML float, which unlike Go's needs a dot or exponent.
func formatFloat(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 0):
		return strings.ToLower(strconv.FormatFloat(f, 'g', -1, bits))
	}
	s := strconv.FormatFloat(f, 'g', -1, bits)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// quote returns a TOML basic string (TOML 1.1 "String"). Invalid UTF-8, which
// TOML cannot hold, becomes U+FFFD.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
