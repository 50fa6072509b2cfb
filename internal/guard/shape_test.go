package guard

import (
	"encoding/json"
	"strings"
	"testing"

	"sidecar/internal/record"
)

func TestStringShapes(t *testing.T) {
	for _, c := range []struct {
		want shape
		in   []string
	}{
		{text, []string{"a", "-", "+", "+5", ".5", "5.", "1.e5", "1e", "1e+", "e5", "0x10", "1f", "1d", "NaN", "Infinity", "--5", "1 2", "1_000",
			"9223372036854775808", "-9223372036854775809", "1e18", "1e19", "1000000000000000000.5", "9223372036854775807.5", "1e-401", "1e99999999999", "1e0000000001",
			"2026-", "2026-1", "2026-1-1", "2026-011", "2026-11-", "2026-11-2", "2026-11-20 10:00:00", "2026-11-20t10:00:00", "2026-11-200", "2026-11/20",
			"12345-11-20", "123-11-20", "2026/11", "2026/11/2", "2026/11-20", "2026/11/20T10:00:00", "20-11-2026", "-20-11-20", "+12345678901-11-20", "10:00:00",
			"١٢٣", "2026-11-20T10:00:00Żory", "2026-11-20T\x7f", "2026-11-20T\t1", "2026-11-20T" + strings.Repeat("1", maxPlain)}},
		{numeric, []string{"0", "5", "-5", "007", "-0", "1.5", "-1.5e3", "1E5", "1e+5", "1e-5", "1e17", "9223372036854775807", "-9223372036854775808",
			"00000000000000000000000000000000001", "100000000000000000.5", "2026", "0.1", "1e-400"}},
		{isoDate, []string{"2026-11-20", "2024-02-29", "2000-02-29", "1000-01-01", "9999-12-31", "2026-11-20T00:00:00", "2026-11-20T23:59:59Z",
			"2026-11-20T10:00:00.123", "2026-11-20T10:00:00.123Z", "2026-11-20T10:00:00.123456789+01:00", "2026-11-20T10:00:00-0930", "2026-11-20T10:00:00+17:59"}},
		{slashDate, []string{"2026/11/20", "2024/02/29", "2026/11/20 00:00:00", "2026/11/20 23:59:59"}},
		{maybeDate, []string{"2026-11", "2026-99", "2026-13-01", "2026-00-10", "2026-11-31", "2026-11-00", "2023-02-29", "1900-02-29", "0999-01-01", "0000-01-01",
			"+2026-11-20", "-2026-11-20", "+12026-11-20", "2026-11-20T", "2026-11-20T10", "2026-11-20T10:00", "2026-11-20T24:00:00", "2026-11-20T23:60:00",
			"2026-11-20T23:59:60", "2026-11-20T10:00:00.1", "2026-11-20T10:00:00.12Z", "2026-11-20T10:00:00.1234567890Z", "2026-11-20T10:00:00,123Z",
			"2026-11-20T10:00:00z", "2026-11-20T10:00:00+01", "2026-11-20T10:00:00+18:00", "2026-11-20T10:00:00+01:60", "2026-11-20T10:00:00+1800", "2026-11-20T10:00:00-0160", "2026-11-20T10:00:00Europe/Warsaw",
			"2026-11-20T10:00:00.123 Z", "2026-11-20T10-00-00", "2026/13/01", "2026/11/20 10:00", "2026/11/20 24:00:00", "2026/11/20 10:00:00 +0000", "2026/11/20 ż"[:11] + "z"}},
	} {
		for _, in := range c.in {
			quoted, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			var escaped strings.Builder
			escaped.WriteString(`"\n \u0009`)
			for _, r := range in {
				escaped.WriteString(`\u00` + string("0123456789abcdef"[r>>4&15]) + string("0123456789ABCDEF"[r&15]))
			}
			escaped.WriteString(`\r"`)
			values := []record.Value{
				{Kind: record.Text, Bytes: []byte(in)},
				{Kind: record.Text, Bytes: []byte("\x00\t " + in + strings.Repeat(" ", 2*maxPlain))},
				{Kind: record.Quoted, Bytes: quoted},
				{Kind: record.Quoted, Bytes: []byte(`"  ` + string(quoted[1:len(quoted)-1]) + ` "`)},
			}
			if c.want != text {
				values = append(values, record.Value{Kind: record.Quoted, Bytes: []byte(escaped.String())})
			}
			for _, v := range values {
				if got := shapeOf(v); got != c.want {
					t.Errorf("%q: got %d (%s), want %d (%s)", v.Bytes, got, got, c.want, c.want)
				}
			}
		}
	}
}

func TestNumberShapes(t *testing.T) {
	for want, tokens := range map[shape][]string{
		number: {"0", "-0", "9223372036854775807", "-9223372036854775807", "-9223372036854775808", "1.5", "1e17", "1e-400", "0.000001", "123456789.123456789e9",
			"999999999999999999.9", "1E5", "1e+17"},
		largeNumber: {"1e18", "1e19", "-1e19", "3.5e38", "1e39", "1e308", "9223372036854775807.5", "10e18", "1e99999999999"},
	} {
		for _, token := range tokens {
			if got := shapeOf(record.Value{Kind: record.Number, Bytes: []byte(token)}); got != want {
				t.Errorf("%s: got %s, want %s", token, got, want)
			}
		}
	}
}

// Nothing that the contract of record.Value forbids may crash the guard.
func TestBrokenValues(t *testing.T) {
	for _, s := range []string{`"`, `""`, `"\"`, `"\u"`, `"\u00"`, `"\u003"`, `"\uzzzz"`, `"5\u0`, `" "`, `"\n"`} {
		if got := shapeOf(record.Value{Kind: record.Quoted, Bytes: []byte(s)}); got != text {
			t.Errorf("%s: got %s", s, got)
		}
	}
	for _, s := range []string{"", " ", "\n"} {
		if got := shapeOf(record.Value{Kind: record.Text, Bytes: []byte(s)}); got != text {
			t.Errorf("%q: got %s", s, got)
		}
	}
}
