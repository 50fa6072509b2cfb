package main

import (
	"strings"
	"testing"
)

// The verbs below types have the help that every verb has.
func TestHelpOfTypes(t *testing.T) {
	cmd := newTypes(new(configFlags))
	if len(cmd.Commands()) != 2 {
		t.Fatalf("%d verbs, want merge and diff", len(cmd.Commands()))
	}
	for _, verb := range cmd.Commands() {
		if verb.Short == "" || verb.Long == "" || !strings.HasPrefix(verb.Example, "  logship types "+verb.Name()+" ") {
			t.Errorf("%s: no description, or no example", verb.Name())
		}
		for line := range strings.SplitSeq(verb.Long, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: a line of %d bytes does not fit a terminal: %s", verb.Name(), len(line), line)
			}
		}
		var out strings.Builder
		if code := run([]string{"help", "types", verb.Name()}, nil, &out, &out); code != exitOK || !strings.Contains(out.String(), verb.Example) {
			t.Errorf("%s: help ends with %d: %s", verb.Name(), code, &out)
		}
	}
}
