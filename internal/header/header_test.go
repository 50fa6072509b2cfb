package header

import (
	"strings"
	"testing"
	"time"
)

// TestRFC3164LeavesNothingOfAnotherHeader: all of a Header is set, whatever it said.
func TestRFC3164LeavesNothingOfAnotherHeader(t *testing.T) {
	var h Header
	if n := h.RFC5424([]byte(`1 2026-11-17T08:15:30Z h a 1 ID47 [x@1 y="z"] m`)); n != 46 || h.TimeUsec == 0 || string(h.MsgID) != "ID47" {
		t.Fatalf("%d: %+v", n, h)
	}
	r := Reader{Zone: time.UTC}
	if n := r.RFC3164(&h, []byte("text"), 0); n != 0 || h.TimeUsec != 0 || h.Host != nil || h.App != nil || h.ProcID != nil || h.MsgID != nil || h.StructuredData != nil {
		t.Errorf("%d: %+v", n, h)
	}
}

func TestParams(t *testing.T) {
	ok := func(in, name, value, rest string) {
		t.Helper()
		n, v, r, ok := NextParam([]byte(in))
		if !ok || string(n) != name || string(v) != value || string(r) != rest {
			t.Errorf("%q: %q %q %q %v", in, n, v, r, ok)
		}
	}
	bad := func(in, rest string) {
		t.Helper()
		if _, _, r, ok := NextParam([]byte(in)); ok || string(r) != rest {
			t.Errorf("%q: %q %v", in, r, ok)
		}
	}
	ok(`a="1"`, "a", "1", "")
	ok(`a=""`, "a", "", "")
	ok(` a="1" b="2"`, "a", "1", ` b="2"`)
	ok(`a="\"" b="2"`, "a", `\"`, ` b="2"`)
	ok(`a="\\" b="2"`, "a", `\\`, ` b="2"`)
	ok(`a="=" b="2"`, "a", `=`, ` b="2"`)
	bad(``, ``)
	bad(`  `, ``)
	bad(`a`, `a`)
	bad(`a=`, `a=`)
	bad(`a="`, `a="`)
	bad(`a="\"`, `a="\"`)
	bad(`a="\`, `a="\`)
	bad(`a=1 b="2"`, `a=1 b="2"`)
	bad(` ="1"`, `="1"`)
	bad(`a b="2"`, `a b="2"`)
}

// FuzzStructured: the elements are the structured data, the parameters and what is no
// parameter are the element, and what a sender escapes comes back.
func FuzzStructured(f *testing.F) {
	for _, s := range []string{`[a b="c"][d e="f" g="h"] x`, `[a]`, `[a b="\]\"\\"]`, `[a  b=c]`, `[a"] b"]`, `-`, `[`, `[]`} {
		f.Add(s)
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)
	f.Fuzz(func(t *testing.T, in string) {
		data := []byte(in)[:structured([]byte(in))]
		var again []byte
		id, params, rest, ok := NextElement(data)
		for ; ok; id, params, rest, ok = NextElement(rest) {
			again = append(append(again, '['), id...)
			if len(params) > 0 || strings.HasPrefix(in[len(again):], " ]") {
				again = append(append(again, ' '), params...)
			}
			again = append(again, ']')
			said := ""
			name, value, left, ok := NextParam(params)
			for ; ok; name, value, left, ok = NextParam(left) {
				said += string(name) + `="` + string(value) + `"`
			}
			said += string(left)
			if bare := strings.NewReplacer(" ", ""); bare.Replace(said) != bare.Replace(string(params)) {
				t.Errorf("%q: parameters %q say %q", in, params, said)
			}
		}
		if again = append(again, rest...); string(again) != string(data) {
			t.Errorf("%q: structured data %q is cut to %q", in, data, again)
		}
		name, value, left, ok := NextParam([]byte(`n="` + escape.Replace(in) + `"`))
		if got := AppendValue(nil, value); !ok || string(name) != "n" || len(left) > 0 || string(got) != in {
			t.Errorf("%q is read as %q", in, got)
		}
	})
}
