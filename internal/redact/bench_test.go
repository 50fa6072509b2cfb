package redact

import (
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// line does what a line of the log costs: parse, redact unless r is nil, encode.
type line struct {
	p       *parse.Parser
	r       *Redactor
	o       gelf.Options
	records []record.Record
	frame   []byte
}

func (l *line) do(e *record.Entry) {
	l.records = l.p.Parse(l.records[:0], e)
	l.frame = l.frame[:0]
	for i := range l.records {
		if l.r != nil {
			l.r.Apply(&l.records[i])
		}
		l.frame = gelf.Append(l.frame, &l.records[i], &l.o)
	}
}

// BenchmarkLine reports the cost per line with redaction and without.
func BenchmarkLine(b *testing.B) {
	entries, meanBytes := parsetest.BenchEntries()
	for name, r := range map[string]*Redactor{"redacted": newRedactor(b, Options{}), "without": nil} {
		b.Run(name, func(b *testing.B) {
			l := &line{p: parse.New(parse.Options{}), r: r}
			b.SetBytes(meanBytes)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.do(&entries[i%len(entries)])
			}
		})
	}
}

// BenchmarkApply reports the cost of redaction alone, per line.
func BenchmarkApply(b *testing.B) {
	entries, meanBytes := parsetest.BenchEntries()
	p, r := parse.New(parse.Options{}), newRedactor(b, Options{})
	var records []record.Record
	for i := range entries {
		records = append(records, p.Parse(nil, &entries[i])...)
	}
	b.SetBytes(meanBytes)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Apply(&records[i%len(records)])
	}
}

func TestLinesWithoutSecretsDoNotAllocate(t *testing.T) {
	entries, _ := parsetest.BenchEntries()
	l := &line{p: parse.New(parse.Options{}), r: newRedactor(t, Options{})}
	all := func() {
		for i := range entries {
			l.do(&entries[i])
		}
	}
	all() // warm up: buffers grow to the longest line
	if n := testing.AllocsPerRun(3, all); n > 0 {
		t.Errorf("%.1f allocations per %d lines, want none", n, len(entries))
	}
}

// TestLinesWithSecretsDoNotAllocate holds too once buffers are warm.
func TestLinesWithSecretsDoNotAllocate(t *testing.T) {
	lines, cases := parsetest.Corpus()
	l := &line{p: parse.New(parse.Options{}), r: newRedactor(t, Options{})}
	var e record.Entry
	all := func() {
		for i := range cases {
			if len(cases[i].Secrets) > 0 {
				e = record.Entry{Message: lines[cases[i].N-1], Priority: -1}
				l.do(&e)
			}
		}
	}
	all()
	if n := testing.AllocsPerRun(3, all); n > 0 {
		t.Errorf("%.1f allocations per round, want none", n)
	}
}
