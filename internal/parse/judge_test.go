package parse

import (
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// graylogFaults returns what Graylog would not keep of a message as it is sent.
func graylogFaults(frame []byte) (faults []string) {
	v := gelf.Judge(frame)
	if v.Outcome != gelf.Accepted {
		faults = append(faults, v.Summary())
	}
	for _, f := range v.Fields {
		if f.Fate >= gelf.FieldCorrupted {
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
