package guard

import (
	"bufio"
	"compress/gzip"
	"os"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse"
	"sidecar/internal/record"
)

// TestCorpus sends real lines to one index: without the guard it refuses some of
// them, with it none.
func TestCorpus(t *testing.T) {
	f, err := os.Open("../parse/testdata/winston.log.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 16<<20)
	var recs []record.Record
	var options gelf.Options
	p, g := parse.New(parse.Options{}), New(Options{})
	bare, guarded := index{}, index{}
	messages, lost := 0, 0
	for lines.Scan() {
		recs = p.Parse(recs[:0], &record.Entry{Message: lines.Bytes(), Priority: -1})
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
	if lines.Err() != nil || messages < 600 || lost == 0 {
		t.Errorf("%v, %d messages, %d of them refused without the guard", lines.Err(), messages, lost)
	}
	t.Logf("%d messages; without the guard %d are refused; %+v", messages, lost, g.Counts())
}
