package settings

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decode sets v to n and records the origins. Tables are merged into what v
// holds, everything else replaces it. Each value that does not fit is left as it
// was and recorded as an error.
func (l *loader) decode(n *node, v reflect.Value, path string) {
	if n.kind == rawKind {
		var err *Error
		if n, err = n.typed(v.Type()); err != nil {
			err.Key = path
			l.fail(err)
			return
		}
	}
	switch k := v.Kind(); {
	case isText(v.Type()):
		l.decodeText(n, v, path)
	case k == reflect.Struct && n.kind == tableKind:
		l.decodeStruct(n, v, path)
	case k == reflect.Map && n.kind == tableKind:
		l.decodeMap(n, v, path)
	case k == reflect.Slice && n.kind == arrayKind:
		s := reflect.MakeSlice(v.Type(), len(n.array), len(n.array))
		l.forget(path + "[")
		for i, e := range n.array {
			l.origins[joinIndex(path, i)] = e.origin
			l.decode(e, s.Index(i), joinIndex(path, i))
		}
		v.Set(s)
		l.origins[path] = n.origin
	default:
		if err := setScalar(n, v, path); err != nil {
			l.fail(&Error{Origin: n.origin, Key: path, Err: err})
			return
		}
		l.origins[path] = n.origin
	}
}

// forget removes the origins of the elements of an array that is replaced.
func (l *loader) forget(prefix string) {
	maps.DeleteFunc(l.origins, func(path string, _ Origin) bool { return strings.HasPrefix(path, prefix) })
}

func (l *loader) decodeText(n *node, v reflect.Value, path string) {
	err := errors.New(mismatch(n, v.Type(), path))
	if n.kind == stringKind || n.kind == integerKind {
		text := n.text
		if i, perr := strconv.ParseInt(text, 0, 64); n.kind == integerKind && perr == nil {
			text = strconv.FormatInt(i, 10)
		}
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	if err != nil {
		l.fail(&Error{Origin: n.origin, Key: path, Err: err})
		return
	}
	if s, ok := v.Addr().Interface().(*Secret); ok {
		s.access = l.access
		if name, ok := strings.CutPrefix(s.ref, "env:"); ok {
			l.secretEnv[name] = true
		}
	}
	l.origins[path] = n.origin
}

func (l *loader) decodeStruct(n *node, v reflect.Value, path string) {
	same := func(a, b string) bool { return a == b }
	show := func(key string) string { return key }
	if n.origin.Layer == Environment {
		same = strings.EqualFold
		show = func(key string) string { return l.prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__")) }
	}
	known := fields(v.Type())
	for _, key := range slices.Sorted(maps.Keys(n.table)) {
		i := slices.IndexFunc(known, func(f field) bool { return same(f.name, key) })
		if i < 0 {
			l.fail(&Error{Origin: n.table[key].origin, Key: joinKey(path, key), unknown: true,
				Err: errors.New("unknown key" + l.suggest(v.Type(), path, key, show))})
			continue
		}
		l.decode(n.table[key], v.Field(known[i].index), joinKey(path, known[i].name))
	}
}

func (l *loader) decodeMap(n *node, v reflect.Value, path string) {
	// A copy, because the default may be shared with other structs.
	m := reflect.MakeMap(v.Type())
	for _, key := range v.MapKeys() {
		m.SetMapIndex(key, v.MapIndex(key))
	}
	for _, key := range slices.Sorted(maps.Keys(n.table)) {
		k := reflect.ValueOf(key).Convert(v.Type().Key())
		e := reflect.New(v.Type().Elem()).Elem()
		if old := m.MapIndex(k); old.IsValid() {
			e.Set(old)
		}
		l.origins[joinKey(path, key)] = n.table[key].origin
		l.decode(n.table[key], e, joinKey(path, key))
		m.SetMapIndex(k, e)
	}
	v.Set(m)
	l.origins[path] = n.origin
}

// setScalar sets v, of a basic type, to n.
func setScalar(n *node, v reflect.Value, path string) error {
	switch k := v.Kind(); {
	case k == reflect.String && n.kind == stringKind:
		v.SetString(n.text)
	case k == reflect.Bool && n.kind == booleanKind:
		v.SetBool(n.text == "true")
	case v.CanInt() && n.kind == integerKind:
		i, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil || v.OverflowInt(i) {
			most := int64(1)<<(v.Type().Bits()-1) - 1
			return fmt.Errorf("want an integer from %d to %d, found %s", -most-1, most, cut(n.text))
		}
		v.SetInt(i)
	case v.CanUint() && n.kind == integerKind:
		i, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil || i < 0 || v.OverflowUint(uint64(i)) {
			most := uint64(1)<<min(v.Type().Bits(), 63) - 1 // TOML integers end at 2^63-1
			return fmt.Errorf("want an integer from 0 to %d, found %s", most, cut(n.text))
		}
		v.SetUint(uint64(i))
	case v.CanFloat() && n.kind == integerKind:
		i, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil {
			return errors.New(mismatch(n, v.Type(), path))
		}
		v.SetFloat(float64(i))
	case v.CanFloat() && n.kind == floatKind:
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.text, "_", ""), 64)
		if err != nil || v.OverflowFloat(f) {
			return errors.New(mismatch(n, v.Type(), path))
		}
		v.SetFloat(f)
	default:
		return errors.New(mismatch(n, v.Type(), path))
	}
	return nil
}

// mismatch says that n is not what a key of type t wants.
func mismatch(n *node, t reflect.Type, path string) string {
	return "want " + want(t, path) + ", found " + describe(n, t != reflect.TypeFor[Secret]())
}

// describe names a value by its type, and itself if quoted is true.
func describe(n *node, quoted bool) string {
	name := ""
	switch n.kind {
	case tableKind:
		return "a table"
	case arrayKind:
		return "an array"
	case stringKind:
		if !quoted {
			return "a string"
		}
		return fmt.Sprintf("string %q", cut(n.text))
	case integerKind:
		name = "integer"
	case floatKind:
		name = "float"
	case booleanKind:
		name = "boolean"
	default:
		name = "date"
	}
	if !quoted {
		return "a " + name
	}
	return name + " " + cut(n.text)
}

// typed reads text from the environment or --set as a key of type t wants it:
// strings as they are; arrays as TOML or as a list with commas; everything else
// as TOML. Text that is no TOML becomes a string, for its error to quote.
func (n *node) typed(t reflect.Type) (*node, *Error) {
	text := strings.TrimSpace(n.text)
	as := func(k kind, text string) *node { return &node{kind: k, origin: n.origin, text: text} }
	switch {
	case isText(t):
		return as(stringKind, text), nil
	case t.Kind() == reflect.String:
		return as(stringKind, n.text), nil
	case strings.HasPrefix(text, "[") || strings.HasPrefix(text, "{"):
		return parseValue(text, n.origin)
	case t.Kind() == reflect.Slice && !isTable(t.Elem()):
		a := as(arrayKind, "")
		if text != "" {
			for part := range strings.SplitSeq(text, ",") {
				a.array = append(a.array, as(rawKind, strings.TrimSpace(part)))
			}
		}
		return a, nil
	}
	if v, err := parseValue(text, n.origin); err == nil {
		return v, nil
	}
	return as(stringKind, text), nil
}
