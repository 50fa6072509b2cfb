package parse

import (
	"strings"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// beyondFloat is why the index refuses a number that package guard makes a text of, on
// the way from parsing to sending.
const beyondFloat = "beyond a 32-bit float"

// graylogFaults returns what Graylog would not keep of a message as it is parsed.
func graylogFaults(frame []byte) (faults []string) {
	v := gelf.Judge(frame)
	if v.Outcome != gelf.Accepted && !strings.HasSuffix(v.Reason, ": "+beyondFloat) {
		faults = append(faults, v.Summary())
	}
	for _, f := range v.Fields {
		if f.Fate >= gelf.FieldCorrupted && f.Note != beyondFloat {
			faults = append(faults, f.String())
		}
	}
	return faults
}

func TestGraylogKeepsEverything(t *testing.T) {
	lines, _ := parsetest.Corpus()
	p := New(Options{})
	var records []record.Record
	for i, line := range lines {
		records = p.Parse(records[:0], &record.Entry{Message: line, Priority: -1, Identifier: []byte("node"), ID: []byte("e1"), Seq: 7})
		for j := range records {
			frame := gelf.Append(nil, &records[j], &gelf.Options{Host: "web-01"})
			if faults := graylogFaults(frame); faults != nil {
				t.Errorf("line %d: %q\n%.300s", i+1, faults, frame)
			}
		}
	}
}
