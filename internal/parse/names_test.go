package parse

import (
	"bytes"
	"fmt"
	"testing"

	"sidecar/internal/record"
)

// show returns a record as text.
func show(r *record.Record) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %s", r.Level, r.Short.Bytes)
	for _, f := range r.Fields {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value.Bytes)
	}
	return b.String()
}

// TestNamesAsData: services that use ids as keys do not fill the memory, and what is
// forgotten, or remembered, changes no record.
func TestNamesAsData(t *testing.T) {
	p := New(Options{})
	for i := range 5 * maxNames / 4 {
		line := fmt.Appendf(nil, `_jsonrc:{"level":"warn","message":"m","user_%d":{"a.b":1,"seq":2,"a_b":3},"level_name":"x","err":{"message":"e","stack":"s"}}`, i)
		e := &record.Entry{Message: line, Priority: 6, Seq: 1}
		got := p.Parse(nil, e)
		want := New(Options{}).Parse(nil, e)
		if show(&got[0]) != show(&want[0]) {
			t.Fatalf("document %d: %s, want %s", i, show(&got[0]), show(&want[0]))
		}
		if p.names.size > maxNames+maxNewKeys || len(p.names.byText) > maxNames+maxNewKeys {
			t.Fatalf("document %d: %d names are remembered", i, p.names.size)
		}
	}
	if p.names.size > maxNames || len(p.names.root.members) > maxNames {
		t.Errorf("%d names are remembered", p.names.size)
	}
}

// TestLongNames: what is remembered is bounded in bytes too.
func TestLongNames(t *testing.T) {
	p := New(Options{})
	key := bytes.Repeat([]byte("k"), 100_000)
	for i := range 50 {
		p.Parse(nil, &record.Entry{Message: fmt.Appendf(nil, `_jsonrc:{"message":"m","%s%d":1}`, key, i), Priority: -1})
		if p.names.bytes > maxNamesBytes+len(key)+1000 {
			t.Fatalf("%d bytes are remembered", p.names.bytes)
		}
	}
}

// TestManyNewMembers: the members that a document has too many of are counted, those
// that say nothing are not.
func TestManyNewMembers(t *testing.T) {
	var doc bytes.Buffer
	doc.WriteString(`_jsonrc:{"a":0`)
	const members = maxNewKeys + 500
	for i := range members {
		fmt.Fprintf(&doc, `,"n%d":null,"k%d":%d`, i, i, i)
	}
	doc.WriteString(`,"level":"error","message":"still found"}`)
	r := New(Options{}).Parse(nil, &record.Entry{Message: doc.Bytes(), Priority: 6})[0]
	if r.Level != 3 || string(r.Short.Bytes) != `"still found"` {
		t.Errorf("level %d, %s", r.Level, r.Short.Bytes)
	}
	dropped := ""
	for _, f := range r.Fields {
		if f.Name.String() == "fields_dropped" {
			dropped = string(f.Value.Bytes)
		}
	}
	if want := fmt.Sprint(members + 1 - 250); dropped != want || r.Degraded&record.FieldsDropped == 0 {
		t.Errorf("%s fields dropped, want %s", dropped, want)
	}
}

// TestGuessedMembers: a guess at the next member is no more than that.
func TestGuessedMembers(t *testing.T) {
	p := New(Options{})
	for _, line := range []string{
		`{"a":1,"c":2,"message":"m"}`, `{"a":1,"b":2,"message":"m"}`, `{"a":1,"bb":2,"message":"m"}`, `{"a":1,"b":2,"message":"m"}`, `{"a":1,"b\u0062":2,"message":"m"}`,
		`{"b":{"a":1,"b":2},"a":{"b":1},"message":"m"}`, `{"a":1,"b":2,"a":3,"a_b":4,"a":{"b":5},"message":"m"}`, `{"a":1,"b`, `{"a":1,"b"`, `{"a":1,"b":`,
		`{"@fields":{"a":1,"b":2},"a":3,"message":"m"}`, `{"a":1, "b" : 2,"message":"m"}`,
	} {
		e := &record.Entry{Message: []byte("_jsonrc:" + line), Priority: 6}
		want := show(&New(Options{}).Parse(nil, e)[0])
		for range 3 {
			if got := show(&p.Parse(nil, e)[0]); got != want {
				t.Errorf("%s: %s, want %s", line, got, want)
			}
		}
	}
}
