package gelf

import (
	"math"
	"strings"
	"testing"

	"sidecar/internal/gelf/judgetest"
)

func TestJudgeAcceptsPlainMessage(t *testing.T) {
	v := Judge([]byte(judgetest.With(`"_ok":"x","_n":5,"_f":1.5,"full_message":"a\n b"`)))
	if v.Outcome != Accepted || v.Reason != "" || len(v.Notes) != 0 || v.Worst() != FieldKept {
		t.Fatalf("got %s", v.Summary())
	}
	if v.Source != "web1" || v.Message != "hello" || v.TimestampMs != 1700000000123 || !v.HasLevel || v.Level != 6 {
		t.Errorf("got %+v", v)
	}
	for name, want := range map[string]any{"ok": "x", "n": int64(5), "f": 1.5, "full_message": "a\n b"} {
		if f, ok := v.Field(name); !ok || f.Value != want {
			t.Errorf("%s: got %+v, want %v", name, f, want)
		}
	}
}

// TestJudgeOutcome: messages as a whole.
func TestJudgeOutcome(t *testing.T) {
	for _, tt := range judgetest.Messages() {
		t.Run(tt.Name, func(t *testing.T) {
			v := Judge([]byte(tt.In))
			if v.Outcome.String() != tt.Outcome || !strings.Contains(v.Reason, tt.Reason) || tt.Reason == "" && v.Reason != "" {
				t.Errorf("got %s, want %s: %s", v.Summary(), tt.Outcome, tt.Reason)
			}
		})
	}
}

// TestJudgeField: one field beside others.
func TestJudgeField(t *testing.T) {
	for _, tt := range judgetest.Fields() {
		t.Run(tt.Name, func(t *testing.T) {
			v := Judge([]byte(judgetest.With(tt.Members)))
			for _, f := range v.Fields {
				if f.Key == tt.Key {
					if f.Name != tt.As || f.Fate.String() != tt.Fate || f.Value != tt.Value {
						t.Errorf("got %s as %q = %#v, want %s as %q = %#v", f, f.Name, f.Value, tt.Fate, tt.As, tt.Value)
					}
					if f.Fate == FieldDropped && f.Note == "" {
						t.Error("dropped without a note")
					}
					return
				}
			}
			t.Errorf("no verdict on %s in %s", tt.Key, v.Summary())
		})
	}
}

func TestJudgeTimestamp(t *testing.T) {
	for in, want := range map[string]int64{
		`1700000000.1234`:        1700000000123,
		`1700000000.1235`:        1700000000124, // the nearest double is above the half
		`1700000000.9995`:        1700000001000,
		`1700000000`:             1700000000000,
		`1.7e9`:                  1700000000000,
		`"1700000000.5"`:         1700000000500,
		`" 1700000000 "`:         1700000000000,
		`"1e3f"`:                 1000000,
		`"0x1p10"`:               1024000,
		`"2024-01-01T00:00:00Z"`: 0,
		`""`:                     0,
		`"inf"`:                  0,
		`"1_0"`:                  0,
		`0`:                      0,
		`-5`:                     0,
		`null`:                   0,
		`true`:                   0,
		`[1]`:                    0,
	} {
		v := Judge([]byte(`{"host":"h","short_message":"m","timestamp":` + in + `}`))
		if v.Outcome != Accepted || v.TimestampMs != want {
			t.Errorf("%s: got %d, want %d (%s)", in, v.TimestampMs, want, v.Summary())
		}
		if want == 0 && len(v.Notes) == 0 {
			t.Errorf("%s: receive time without a note", in)
		}
	}
}

func TestJudgeLevel(t *testing.T) {
	for in, want := range map[string]int64{
		`3`: 3, `"3"`: 3, `3.9`: 3, `true`: 1, `false`: 0, `99`: 99, `-1`: -1, `0`: 0, `"+4"`: 4, `" 5 "`: 5, `"6.7"`: 6,
		`4294967299`: 3, `1e400`: math.MaxInt32,
	} {
		v := Judge([]byte(`{"host":"h","short_message":"m","level":` + in + `}`))
		if v.Outcome != Accepted || !v.HasLevel || v.Level != want {
			t.Errorf("%s: got %v %d, want %d (%s)", in, v.HasLevel, v.Level, want, v.Summary())
		}
	}
	for _, in := range []string{``, `,"level":null`, `,"_level":null`, `,"_level":true`, `,"level":""`} {
		if v := Judge([]byte(`{"host":"h","short_message":"m"` + in + `}`)); v.Outcome != Accepted || v.HasLevel {
			t.Errorf("%q: got %v %d, want no level (%s)", in, v.HasLevel, v.Level, v.Summary())
		}
	}
	if v := Judge([]byte(`{"host":"h","short_message":"m","_level":3}`)); !v.HasLevel || v.Level != 3 {
		t.Errorf("_level: got %s", v.Summary())
	}
}

func TestJudgeSourceAndMessage(t *testing.T) {
	for _, tt := range []struct{ in, source, message string }{
		{`{"host":" h ","short_message":"  m\n"}`, "h", "m"},
		{`{"short_message":"m"}`, "", "m"},
		{`{"host":"\u0002","short_message":"m"}`, "", "m"},
		{`{"short_message":"m","_source":"s"}`, "s", "m"},
		{`{"host":"h","message":" m "}`, "h", "m"},
		{`{"host":"h","_message":"first","message":"m"}`, "h", "first"},
		{`{"host":"a","host":"h","short_message":"m"}`, "h", "m"},
	} {
		v := Judge([]byte(tt.in))
		if v.Outcome != Accepted || v.Source != tt.source || v.Message != tt.message {
			t.Errorf("%s: got %q %q (%s)", tt.in, v.Source, v.Message, v.Summary())
		}
	}
}

func TestJudgeNotesDates(t *testing.T) {
	for value, want := range map[string]bool{
		"2024-01-01": true, "2024-01": true, "2024-01-01T10:20:30Z": true, "2024-01-01T10:20:30.123+02:00": true,
		"2024-01-01T10": true, "2024/01/02 10:11:12": true, "2024/01/02": true,
		"2024": false, "soon": false, "2024-13-01": false, "2024/01/02 10:11:12 +0200": false, "2024/01/02 Z": false, "2024/13/02": false, "2024/01/32": false, "2024/01/02 24:00:00": false, "2024-01-01 10:20": false, "x2024-01-01": false, "2024-01-01x": false,
	} {
		v := Judge([]byte(judgetest.With(`"_x":"` + value + `"`)))
		f, _ := v.Field("x")
		if got := strings.Contains(f.Note, "date"); got != want || f.Fate != FieldKept {
			t.Errorf("%q: got %v (%s), want %v", value, got, f, want)
		}
	}
}

func TestJudgeNumbersBeyondFloat(t *testing.T) {
	for value, want := range map[string]bool{"3.4e38": false, "1e39": true, "-1e39": true, "1.7976931348623157e308": true, "5e-324": false, "7": false} {
		v := Judge([]byte(judgetest.With(`"_x":` + value)))
		f, _ := v.Field("x")
		if got := strings.Contains(f.Note, "32-bit"); got != want || (v.Outcome == IndexFailure) != want {
			t.Errorf("%s: %s, %s", value, v.Outcome, f)
		}
	}
}

func TestJudgeSummary(t *testing.T) {
	v := Judge([]byte(`{"host":"h","short_message":" m","timestamp":1,"_ok":1,"_a.b":"x","_b":true} {}`))
	want := "accepted\n" +
		"a second document in the same frame is dropped\n" +
		"short_message is trimmed\n" +
		"_ok: kept\n" +
		"_a.b: renamed to a_b (dots become underscores)\n" +
		"_b: dropped (boolean)"
	if got := v.Summary(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	v = Judge([]byte(`{"host":"h","short_message":"m","timestamp":1,"_x":1e39}`))
	want = "index failure: _x: beyond a 32-bit float\n_x: causes index failure (beyond a 32-bit float)"
	if got := v.Summary(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add([]byte(judgetest.With(`"_a.b":[{"x":1e5}],"_c ":"\ud800"`)))
	f.Add([]byte("{\"host\":\"h\",\"message\":\"\xff\",\"level\":\"0x1p3\",\"line\":-1,} 1"))
	f.Add([]byte(`{"short_message":"","message":null,"file":{},"timestamp":"NaN"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		v := Judge(message)
		if (v.Outcome == Accepted) != (v.Reason == "") {
			t.Errorf("outcome %s with reason %q", v.Outcome, v.Reason)
		}
		if v.Outcome == Refused && len(v.Fields) > 0 {
			t.Error("fields of a refused message")
		}
		for _, fv := range v.Fields {
			if (fv.Value == nil) != (fv.Fate == FieldDropped) {
				t.Errorf("%s: value %v", fv, fv.Value)
			}
			if fv.Fate == FieldFails && v.Outcome == Accepted {
				t.Errorf("%s in an accepted message", fv)
			}
		}
	})
}
