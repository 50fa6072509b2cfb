package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCutLines(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	in := "<14>Nov 20 10:00:00 web-01 app[1]: one\n<14>Nov 20 10:00:00 web-01 app[1]: " + long + "\n"
	var out bytes.Buffer
	if err := cutLines(iotest.OneByteReader(strings.NewReader(in)), &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "one\x00"+long+"\x00"; got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

func TestFieldNames(t *testing.T) {
	lines := bytes.Split(bytes.TrimSpace(bytes.Repeat([]byte("_jsonrc:{\"level\":\"info\",\"message\":\"m\",\"b\":1,\"a\":2}\nplain\n"), 30)), []byte("\n"))
	lines = append(lines, []byte(`_jsonrc:{"seldom":1}`))
	if got := strings.Join(fieldNames(lines), " "); got != "a b" {
		t.Errorf("got %q", got)
	}
}
