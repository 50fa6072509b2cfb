package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// What types want, as errors say it.
const (
	wantDuration = `a duration such as "10s", "1h30m" or "2d"`
	wantSize     = `a size such as "256KiB", "4MiB" or 65536`
	wantSecret   = `"env:NAME", "file:/path" or "cred:name"`
)

// field is one key of a struct.
type field struct {
	name  string
	index int
}

// fields returns the keys of a struct type in the order of its fields.
func fields(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("toml"), ",")
		if t.Field(i).IsExported() && name != "-" {
			fs = append(fs, field{name, i})
		}
	}
	return fs
}

// isText reports whether a type reads its own text.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isTable reports whether values of a type are tables.
func isTable(t reflect.Type) bool {
	return !isText(t) && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map)
}

// isTableArray reports whether values of a type are arrays of tables.
func isTableArray(t reflect.Type) bool {
	return !isText(t) && t.Kind() == reflect.Slice && isTable(t.Elem())
}

// checkType panics if a type cannot be filled from TOML and printed again.
func checkType(t reflect.Type, path string) {
	bad := func(why string) { panic(fmt.Sprintf("settings: %q of type %s %s", path, t, why)) }
	if isText(t) {
		if !t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			bad("has UnmarshalText without MarshalText")
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		seen := map[string]bool{}
		for _, f := range fields(t) {
			if f.name == "" || seen[f.name] {
				bad("needs a toml tag of its own for " + t.Field(f.index).Name)
			}
			seen[f.name] = true
			checkType(t.Field(f.index).Type, joinKey(path, f.name))
		}
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			bad("needs string keys")
		}
		checkType(t.Elem(), path)
	case reflect.Slice:
		if isTableArray(t.Elem()) {
			bad("is an array of arrays of tables")
		}
		checkType(t.Elem(), path)
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if t == reflect.TypeFor[time.Duration]() {
			bad("must be a settings.Duration")
		}
	default:
		bad("is not supported")
	}
}

// schemaPaths returns every key that a struct type knows by name, tables
// included, in the order of the fields.
func schemaPaths(t reflect.Type, path string) []string {
	var paths []string
	for _, f := range fields(t) {
		p := joinKey(path, f.name)
		paths = append(paths, p)
		if ft := t.Field(f.index).Type; ft.Kind() == reflect.Struct && !isText(ft) {
			paths = append(paths, schemaPaths(ft, p)...)
		}
	}
	return paths
}

// joinKey appends a key to a dotted path, quoted if TOML needs it.
func joinKey(path, key string) string {
	bare := key != "" && strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
	if !bare {
		key = quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// joinIndex appends an array index to a path.
func joinIndex(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// want describes what a key of type t accepts.
func want(t reflect.Type, path string) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return wantDuration
	case reflect.TypeFor[Size]():
		return wantSize
	case reflect.TypeFor[Secret]():
		return wantSecret
	}
	switch {
	case isTable(t):
		return "a table such as [" + path + "]"
	case isTableArray(t):
		return "an array of tables such as [[" + path + "]]"
	}
	switch k := t.Kind(); {
	case isText(t), k == reflect.String:
		return `a string such as "text"`
	case k == reflect.Bool:
		return "true or false"
	case k == reflect.Float32, k == reflect.Float64:
		return "a number such as 0.5"
	case k == reflect.Slice:
		return "an array such as [" + example(t.Elem()) + "]"
	}
	return "an integer such as 10"
}

// example returns a TOML value for an element of an array.
func example(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return `"10s"`
	case reflect.TypeFor[Size]():
		return `"4MiB"`
	case reflect.TypeFor[Secret]():
		return `"env:NAME"`
	}
	switch k := t.Kind(); {
	case isText(t), k == reflect.String:
		return `"text"`
	case k == reflect.Bool:
		return "true"
	case k == reflect.Float32, k == reflect.Float64:
		return "0.5"
	case k == reflect.Slice:
		return "[" + example(t.Elem()) + "]"
	}
	return "10"
}

// suggest completes an unknown key: with the key that was meant, if one is near
// enough, else with those that there are. path is that of the table, t its type,
// and show turns a path into what the user would write.
func (l *loader) suggest(t reflect.Type, path, key string, show func(string) string) string {
	var siblings []string
	for _, f := range fields(t) {
		siblings = append(siblings, joinKey(path, f.name))
	}
	unknown := joinKey(path, key)
	most := (len(key) + 1) / 3
	best := Nearest(unknown, siblings, most)
	if best == "" && !strings.Contains(path, "[") {
		best = Nearest(unknown, l.paths, min(most, 2))
	}
	if best == "" {
		best = sameName(key, l.paths)
	}
	switch {
	case best != "":
		return "; did you mean " + show(best) + "?"
	case path == "":
		return "; the top level has " + list(siblings, show)
	}
	return "; [" + path + "] has " + list(siblings, show)
}

// list names the first few keys.
func list(keys []string, show func(string) string) string {
	const most = 8
	var b strings.Builder
	for i, k := range keys {
		if i == most {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(show(k))
	}
	return b.String()
}

// sameName returns the only candidate whose last part is key, or "".
func sameName(key string, candidates []string) string {
	var found string
	for _, c := range candidates {
		if strings.EqualFold(c[strings.LastIndexByte(c, '.')+1:], key) {
			if found != "" {
				return ""
			}
			found = c
		}
	}
	return found
}

// Nearest returns the candidate with the fewest typing errors, in any case, or "" if
// all have more than most.
func Nearest(s string, candidates []string, most int) string {
	best := ""
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d <= most {
			best, most = c, d-1
		}
	}
	return best
}

// distance returns how many insertions, deletions, substitutions and swaps of
// neighbours turn a into b (optimal string alignment).
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, above, row := rows[0], rows[1], rows[2]
	for j := range row {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
