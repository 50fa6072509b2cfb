package record

import (
	"fmt"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	text := []byte("http_method")
	n := NewName(text)
	text[0] = 'x'
	if n.String() != "http_method" || string(n.Bytes()) != "http_method" || string(n.Key()) != `,"_http_method":` {
		t.Errorf("%s, %s, %s", n, n.Bytes(), n.Key())
	}
	if cap(n.Bytes()) != len("http_method") {
		t.Error("appending to the text would change the key")
	}
}

func TestNameMemo(t *testing.T) {
	var m NameMemo[int]
	twin := [2]*Name{NewName("a"), NewName("a")}
	v, known := m.At(twin[0])
	if known {
		t.Error("an empty memo knows a name")
	}
	*v = 7
	if v, known := m.At(twin[0]); !known || *v != 7 {
		t.Errorf("%d %v, want 7", *v, known)
	}
	if v, known := m.At(twin[1]); known || *v != 0 {
		t.Errorf("%d %v: another name with the same text is taken for the first", *v, known)
	}
	for i := range 10 * memoSize {
		n := NewName(fmt.Sprint(i))
		v, _ := m.At(n)
		*v = i
		if v, known := m.At(n); !known || *v != i {
			t.Fatalf("%s: %d %v", n, *v, known)
		}
	}
}

func TestLastValue(t *testing.T) {
	var l LastValue
	value := func(kind Kind, s string) *Value { return &Value{Kind: kind, Bytes: []byte(s)} }
	long := `"` + strings.Repeat("x", 45) + `"`
	for _, v := range []*Value{value(Quoted, `"a"`), value(Quoted, `"b"`), value(Quoted, long)} {
		if l.Is(v) {
			t.Errorf("%s is known before it was set", v.Bytes)
		}
		if l.Set(v); !l.Is(v) {
			t.Errorf("%s is not remembered", v.Bytes)
		}
	}
	if l.Is(value(Text, long)) {
		t.Error("a text is taken for the JSON string of the same bytes")
	}
	for _, v := range []*Value{value(Quoted, `"`+long), value(Text, "t"), value(Number, "7")} {
		if l.Set(v); l.Is(v) || !l.Is(value(Quoted, long)) {
			t.Errorf("%s was remembered", v.Bytes)
		}
	}
}
