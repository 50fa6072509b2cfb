package guard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidecar/internal/gelf"
	"sidecar/internal/record"
)

// index is a model of OpenSearch's dynamic mapping behind Graylog (graylog.md 1.5
// and 1.6): the first value of a field gives it a type for as long as the index
// lasts. Where versions differ it takes the worse for us: any of them may detect a
// date, only what all of them take is a date to a date field.
type index map[string]string // field → long, float, date, slash-date or keyword

var (
	modelISO   = regexp.MustCompile(`^(\d{4}|[+-]\d{4,10})-\d\d(-\d\d(T.*)?)?$`)
	modelSlash = regexp.MustCompile(`^(\d{4}|[+-]\d{4,10})/\d\d/\d\d( .*)?$`)
	modelTime  = regexp.MustCompile(`^([^.,]*|[^.,]*\.\d{3,9}([Z+-].*)?)$`)
	modelZone  = regexp.MustCompile(`[+-](18|19|2\d):?\d\d$`)
)

// add indexes a frame, and returns what is wrong with it.
func (ix index) add(frame []byte) error {
	var message map[string]any
	d := json.NewDecoder(bytes.NewReader(frame))
	d.UseNumber()
	if err := d.Decode(&message); err != nil {
		return err
	}
	for name, value := range message {
		name, additional := strings.CutPrefix(name, "_")
		if !additional {
			continue
		}
		if err := ix.put(name, value); err != nil {
			return fmt.Errorf("%s = %v in a %s field: %w", name, value, ix[name], err)
		}
	}
	return nil
}

func (ix index) put(name string, value any) error {
	var text string
	switch v := value.(type) {
	case json.Number:
		text = v.String()
		if ix[name] == "" {
			ix[name] = "long"
			if strings.ContainsAny(text, ".eE") {
				ix[name] = "float"
			}
		}
	case string:
		text = strings.TrimFunc(v, func(r rune) bool { return r <= ' ' })
		if ix[name] == "" {
			ix[name] = detect(text)
		} else if t := ix[name]; (t == "date" || t == "slash-date") && !isModelDate(t, text) {
			return fmt.Errorf("not a date")
		}
	default:
		return fmt.Errorf("%T is no value", value)
	}
	switch ix[name] {
	case "long", "float":
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(float64(float32(x)), 0) || strings.ContainsAny(text, "xX_") {
			return fmt.Errorf("not a float")
		}
		if _, err := strconv.ParseInt(text, 10, 64); ix[name] == "long" && err != nil && (x >= 1<<63 || x < -(1<<63)) {
			return fmt.Errorf("not a long")
		}
	case "date", "slash-date":
		if _, isNumber := value.(json.Number); isNumber {
			return fmt.Errorf("a number")
		}
	}
	return nil
}

// detect returns the type of a new field whose first value is a string.
func detect(text string) string {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return "keyword" // numbers are left out of date detection
	}
	switch {
	case modelISO.MatchString(text):
		return "date"
	case modelSlash.MatchString(text):
		return "slash-date"
	}
	return "keyword"
}

// isModelDate reports whether every version takes text for a date of the format.
func isModelDate(format, text string) bool {
	layouts := []string{"2006-01-02", "2006-01-02T15:04:05", "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700"}
	if format == "slash-date" {
		layouts = []string{"2006/01/02", "2006/01/02 15:04:05"}
	}
	for _, layout := range layouts {
		if _, err := time.Parse(layout, text); err == nil && text[0] != '0' && modelTime.MatchString(text) && !modelZone.MatchString(text[10:]) {
			return true
		}
	}
	return false
}

func TestModelRefusesConflicts(t *testing.T) {
	for _, c := range []struct {
		first, second string
		ok            bool
	}{
		{`1`, `"a"`, false}, {`1`, `"12"`, true}, {`"a"`, `1`, true}, {`1`, `1.5`, true}, {`1`, `1e19`, false}, {`1.5`, `1e38`, true}, {`1.5`, `1e39`, false},
		{`"2026-11-20"`, `"soon"`, false}, {`"2026-11-20"`, `1`, false}, {`"2026-11-20"`, `"2026-11-20T10:00:00.123Z"`, true}, {`"2026-11-20"`, `"2026/11/20"`, false},
		{`"2026-11"`, `"soon"`, false}, {`"2026"`, `"soon"`, true}, {`"soon"`, `"2026-11-20"`, true}, {`" 2026-11-20 "`, `"soon"`, false},
		{`"2026-11-20"`, `"2026-11-20T10:00:00+18:00"`, false}, {`"2026-11-20"`, `"2026-02-30"`, false}, {`"2026/11/20"`, `"2026/11/20 10:00:00"`, true},
		{`true`, `true`, false},
	} {
		ix := index{}
		err := ix.add([]byte(`{"short_message":"-","_x":` + c.first + `}`))
		if err == nil {
			err = ix.add([]byte(`{"short_message":"-","_x":` + c.second + `}`))
		}
		if (err == nil) != c.ok {
			t.Errorf("%s, %s: %v", c.first, c.second, err)
		}
	}
}

// values draws values of every shape, in every encoding.
func values() *rapid.Generator[record.Value] {
	plainText := rapid.OneOf(
		rapid.SampledFrom([]string{"a", "busy", "12", "-7", "007", "1.5", "1e5", "1e39", "1e300", "99999999999999999999", "9223372036854775807", "NaN", "0x1p2", "2026",
			`{"code":200}`, `[1,2]`, `"2026-11-20"`, "true"}),
		rapid.StringMatching(`[+-]?[12][0-9]{3,4}[-/][0-3][0-9]([-/][0-3][0-9]([T ]([0-2][0-9]:[0-6][0-9](:[0-6][0-9]([.,][0-9]{1,10})?)?)?(Z|z|[+-][01][0-9]:?[0-6][0-9]|UTC)?)?)?`),
		rapid.Map(rapid.Int64Range(-6e10, 2.5e11), func(sec int64) string { return time.Unix(sec, 0).UTC().Format("2006-01-02T15:04:05.000Z") }),
		rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"2026-11-20", "2024-02-29", "2023-02-29", "+2026-11-20"}).Draw(t, "day") +
				rapid.SampledFrom([]string{"", "T", "T10", "T10:00", "T10:00:00", "T10:00:60", "T24:00:00"}).Draw(t, "clock") +
				rapid.SampledFrom([]string{"", "", ".1", ".123", ".123456789", ".1234567890", ",123"}).Draw(t, "fraction") +
				rapid.SampledFrom([]string{"", "Z", "+01:00", "-0930", "+18:00", "+1759", "+01:60", "UTC"}).Draw(t, "zone")
		}),
		rapid.Map(rapid.Int64Range(-3e10, 2.5e11), func(sec int64) string { return time.Unix(sec, 0).UTC().Format("2006/01/02 15:04:05") }),
		rapid.Map(rapid.Float64(), func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }),
		rapid.StringN(1, 5, 20),
	)
	return rapid.Custom(func(t *rapid.T) record.Value {
		if rapid.Bool().Draw(t, "number") {
			return record.Value{Kind: record.Number, Bytes: []byte(rapid.OneOf(
				rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
				rapid.Map(rapid.Float64Range(-1e308, 1e308), func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }),
				rapid.SampledFrom([]string{"0", "200", "1.5", "1e17", "1e18", "9.3e18", "1e19", "3.5e38", "1e-300"}),
			).Draw(t, "token"))}
		}
		s := plainText.Draw(t, "text")
		pad := rapid.SampledFrom([]string{"", "", "", " ", "\t\n", strings.Repeat(" ", 100)})
		s = pad.Draw(t, "before") + s + pad.Draw(t, "after")
		if strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }) == "" {
			s = "blank" // parsing leaves blank values out
		}
		if rapid.Bool().Draw(t, "text kind") {
			return record.Value{Kind: record.Text, Bytes: []byte(s)}
		}
		var token strings.Builder
		token.WriteByte('"')
		for _, r := range s {
			b, err := json.Marshal(string(r))
			if err != nil {
				t.Fatal(err)
			}
			if r < 0x80 && rapid.IntRange(0, 7).Draw(t, "escape") == 0 {
				fmt.Fprintf(&token, `\u%04x`, r)
			} else {
				token.Write(b[1 : len(b)-1])
			}
		}
		token.WriteByte('"')
		return record.Value{Kind: record.Quoted, Bytes: []byte(token.String())}
	})
}

// textOfValue returns what a value says, without the blanks that Graylog trims.
func textOfValue(t *rapid.T, v record.Value) string {
	s := string(v.Bytes)
	if v.Kind == record.Quoted {
		if err := json.Unmarshal(v.Bytes, &s); err != nil {
			t.Fatalf("%q: %v", v.Bytes, err)
		}
	}
	return strings.ToValidUTF8(strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }), "\uFFFD")
}

// TestNoConflict: whatever the records, the tables, the limits and restarts, an
// index takes every message, also one that begins anywhere in the stream; and
// nothing of a record is lost.
func TestNoConflict(t *testing.T) {
	fieldNames := []string{"a", "b", "c", "a_str", "b_str", "a_str_2", "a_str_str"}
	tables := rapid.Custom(func(t *rapid.T) *Table {
		tab := new(Table)
		for name, kind := range rapid.MapOfN(rapid.SampledFrom(fieldNames), rapid.Uint8Max(uint8(SlashDate)), 0, 4).Draw(t, "kinds") {
			tab.put(name, Kind(kind))
		}
		return tab
	})
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Mode:     rapid.SampledFrom([]Mode{Learn, Learn, Strict}).Draw(t, "mode"),
			Table:    tables.Draw(t, "table"),
			Shared:   tables.Draw(t, "shared"),
			MaxNames: rapid.IntRange(0, 8).Draw(t, "max names"),
		}
		g, ix := New(o), index{}
		var r record.Record
		for range rapid.IntRange(1, 40).Draw(t, "records") {
			switch rapid.IntRange(0, 9).Draw(t, "before") {
			case 0:
				ix = index{} // Graylog starts a new index
			case 1:
				o.Table = g.Snapshot()
				g = New(o) // logship starts again
			}
			r.Reset()
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(fieldNames), 1, 4, rapid.ID[string]).Draw(t, "names") {
				r.Fields = append(r.Fields, record.Field{Name: record.NewName(name), Value: values().Draw(t, "value")})
			}
			before := append([]record.Field(nil), r.Fields...)
			g.Apply(&r)
			checkKept(t, before, r.Fields)
			frame := gelf.Append(nil, &r, &gelf.Options{})
			if err := ix.add(frame); err != nil {
				t.Fatalf("%s: %v", frame, err)
			}
		}
	})
}

// checkKept checks that every value is still there, under a name made of its own.
func checkKept(t *rapid.T, before, after []record.Field) {
	seen := map[string]bool{}
	for i, f := range after {
		name := before[i].Name.String()
		if f.Name.String() != name && !strings.HasPrefix(f.Name.String(), name+"_str") {
			t.Errorf("%s became %s", name, f.Name)
		}
		if seen[f.Name.String()] {
			t.Errorf("%s is there twice", f.Name)
		}
		seen[f.Name.String()] = true
		was, is := textOfValue(t, before[i].Value), textOfValue(t, f.Value)
		if is != was && is != `"`+was+`"` {
			t.Errorf("%s: %q became %q", name, was, is)
		}
	}
	if len(before) != len(after) {
		t.Errorf("%d fields became %d", len(before), len(after))
	}
}
