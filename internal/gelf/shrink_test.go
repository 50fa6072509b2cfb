package gelf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sidecar/internal/record"
)

// large returns a record whose document is longer than Shrink is asked for.
func large() *record.Record {
	r := &record.Record{
		TimeUsec: 1794903330123000, Level: 3, Host: []byte("db-01"), Short: text(`say "hi" ` + "\u2028é"), Full: text(strings.Repeat("at \"f\"\n\tx", 9<<10)),
		Fields: []record.Field{
			{Name: record.NewName("n"), Value: record.Value{Kind: record.Number, Bytes: []byte("1.50")}},
			{Name: record.NewName("s"), Value: text("\u00e9<&>")},
			{Name: record.NewName("sql"), Value: text(strings.Repeat("select\n", 9<<10))},
		},
		ID: []byte("id-1"), Seq: 12345678901234567,
	}
	return r
}

// TestShrinkIsAppendWithALimit: whether a message is cut when it is encoded or
// afterwards makes no difference.
func TestShrinkIsAppendWithALimit(t *testing.T) {
	whole := Append(nil, large(), &Options{MaxFrameBytes: MaxFrameBytes})
	for _, limit := range []int{minFrameBytes, minFrameBytes + 1, 64<<10 - 1, 64 << 10, 128 << 10, len(whole) - 1, len(whole), len(whole) + 1} {
		want := Append(nil, large(), &Options{MaxFrameBytes: limit})
		before := bytes.Clone(whole)
		got, err := Shrink([]byte("x"), whole, limit)
		if err != nil || string(got) != "x"+string(want) {
			t.Errorf("limit %d: %v\ngot  %.300s\nwant x%.300s", limit, err, got, want)
		}
		if len(want) > limit || limit < len(whole) != strings.Contains(string(want), `"_truncated":"true"`) {
			t.Errorf("limit %d: %d bytes", limit, len(want))
		}
		if !bytes.Equal(before, whole) {
			t.Fatalf("limit %d: the document was changed", limit)
		}
	}
	// Once more changes nothing but what has to go.
	once, _ := Shrink(nil, whole, 64<<10)
	if twice, err := Shrink(nil, once, 64<<10); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%v: a document that fits was changed", err)
	}
}

func TestShrinkRefuses(t *testing.T) {
	whole := string(Append(nil, large(), &Options{}))
	for _, tt := range []struct {
		name, doc string
		max       int
		want      string
	}{
		{"too small", whole, minFrameBytes - 1, "fewer than 8192"},
		{"negative", whole, -1, "fewer than 8192"},
		{"empty", "", minFrameBytes, "invalid JSON"},
		{"array", "[1]", minFrameBytes, "not one object"},
		{"two", "{}{}", minFrameBytes, "not one object"},
		{"cut in a key", `{"vers`, minFrameBytes, "invalid JSON"},
		{"cut in a value", `{"version":"1.`, minFrameBytes, "invalid JSON"},
		{"cut behind a value", whole[:len(whole)-1], minFrameBytes, "invalid JSON"},
		{"bool", `{"_x":true}`, minFrameBytes, `"_x" is neither`},
		{"object", `{"_x":{}}`, minFrameBytes, `"_x" is neither`},
		{"unknown member", `{"message":"m"}`, minFrameBytes, `"message": unknown`},
		{"no name", `{"_":"m"}`, minFrameBytes, `"_": unknown`},
		{"timestamp", `{"timestamp":""}`, minFrameBytes, `"timestamp"`},
		{"level", `{"level":""}`, minFrameBytes, `"level"`},
		{"sequence", `{"_seq":-1}`, minFrameBytes, `"_seq"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Shrink([]byte("x"), []byte(tt.doc), tt.max)
			if err == nil || !strings.Contains(err.Error(), tt.want) || string(got) != "x" {
				t.Errorf("got %.100q, %v", got, err)
			}
		})
	}
}

// TestShrinkKeepsEverything: what fits comes out as it went in, but for the order of
// static fields.
func TestShrinkKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o Options
		r := record.Record{TimeUsec: rapid.Int64Range(0, 4e15).Draw(t, "time"), Level: uint8(rapid.IntRange(0, 7).Draw(t, "level")),
			Host: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "host"), Short: text("a" + rapid.String().Draw(t, "short")),
			Full: text(rapid.String().Draw(t, "full")), ID: []byte(rapid.StringMatching(`[a-z0-9-]{0,20}`).Draw(t, "id")), Seq: rapid.Uint64().Draw(t, "seq")}
		for i := range rapid.IntRange(0, 5).Draw(t, "fields") {
			r.Fields = append(r.Fields, record.Field{Name: record.NewName(fmt.Sprint("f", i)), Value: text("b" + string(rapid.SliceOf(rapid.Byte()).Draw(t, "field")))})
		}
		doc := Append(nil, &r, &o)
		got, err := Shrink(nil, doc, DefaultMaxFrameBytes)
		if err != nil || !bytes.Equal(got, doc) {
			t.Fatalf("%v\ngot  %s\nwant %s", err, got, doc)
		}
	})
}
