package main

import (
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	event := func(action, test, output string) string {
		return `{"Action":"` + action + `","Package":"sidecar/test/faults","Test":"` + test + `","Output":"` + output + `"}` + "\n"
	}
	in := event("output", "TestRow10Killed/spool", `    x_test.go:7: row 10: lost 0, duplicated 12, recovered 1.5 s; 400 messages\n`) +
		event("output", "TestRow10Killed/file", `    x_test.go:7: row 10: lost 0, duplicated 7, recovered 2.0 s; 400 messages\n`) +
		event("output", "TestRow09Disk", `    x_test.go:9: row 9: lost 3, duplicated 0\n`) +
		event("output", "TestRow09Disk", `    x_test.go:9: the row 9 before\n`)
	want := "| # | test | lost | duplicated | recovered, s |\n|---|---|---|---|---|\n" +
		"| 9 | test/faults `TestRow09Disk` | 3 | 0 |  |\n| 10 | test/faults `TestRow10Killed` | 0 | 12 | 2.0 |\n"
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{in, want, true},
		{in + event("fail", "TestRow11Reset", ""), want, false},
		{"", want[:strings.Index(want, "| 9")], false},
	} {
		var out strings.Builder
		if ok, err := run(strings.NewReader(c.in), &out); ok != c.ok || err != nil || out.String() != c.want {
			t.Errorf("%q: %v, %v, got\n%swant\n%s", c.in, ok, err, out.String(), c.want)
		}
	}
}
