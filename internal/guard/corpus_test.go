package guard

import (
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// TestCorpus sends real lines to one index: without the guard it refuses some of
// them, with it none.
func TestCorpus(t *testing.T) {
	lines, _ := parsetest.Corpus()
	var recs []record.Record
	var options gelf.Options
	p, g := parse.New(parse.Options{}), New(Options{})
	bare, guarded := index{}, index{}
	messages, lost := 0, 0
	for _, line := range lines {
		recs = p.Parse(recs[:0], &record.Entry{Message: line, Priority: -1})
		for i := range recs {
			messages++
			if err := bare.add(gelf.Append(nil, &recs[i], &options)); err != nil {
				lost++
			}
			g.Apply(&recs[i])
			frame := gelf.Append(nil, &recs[i], &options)
			if err := guarded.add(frame); err != nil {
				t.Errorf("%s: %v", frame, err)
			}
			if v := gelf.Judge(frame); v.Outcome != gelf.Accepted {
				t.Errorf("%s: %s", frame, v.Reason)
			}
		}
	}
	if messages < 600 || lost == 0 {
		t.Errorf("%d messages, %d of them refused without the guard", messages, lost)
	}
	t.Logf("%d messages; without the guard %d are refused; %+v", messages, lost, g.Counts())
}
