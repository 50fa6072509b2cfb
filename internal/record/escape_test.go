package record

import (
	"encoding/json"
	"testing"
)

func TestAppendUnescaped(t *testing.T) {
	for _, content := range []string{"", "plain", `a\"b\\c\/d`, `\b\f\n\r\t`, `\u0041\u00e9\u20ac`, `\ud83d\ude00!`, `x\ud83dy`, `\ude00\ud83d`,
		`\ud83d\u0041`, `\ud83d\n`, `ü\u00fc`} {
		var want string
		if err := json.Unmarshal([]byte(`"`+content+`"`), &want); err != nil {
			t.Fatal(err)
		}
		if got := string(AppendUnescaped([]byte("x"), []byte(content))); got != "x"+want {
			t.Errorf("%s: %q, want %q", content, got, "x"+want)
		}
	}
	for _, cut := range []string{`\`, `\u`, `\u00`, `\ud83d\u`, `\ud83d\`} {
		AppendUnescaped(nil, []byte(cut)) // does not panic
	}
}

func TestHex4(t *testing.T) {
	if u, ok := Hex4([]byte("x00eF"), 1); !ok || u != 0xef {
		t.Errorf("%x %v", u, ok)
	}
	for _, bad := range []string{"", "123", "12g4", "00 1", "+123"} {
		if _, ok := Hex4([]byte(bad), 0); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}
