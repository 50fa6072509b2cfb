package redact

import (
	"bytes"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse"
	"sidecar/internal/record"
)

func benchEntries(tb testing.TB) (entries []record.Entry, size int64) {
	tb.Helper()
	for i, line := range bytes.Split(bytes.TrimSpace(gunzip(tb, "bench.log.gz")), []byte("\n")) {
		size += int64(len(line))
		entries = append(entries, record.Entry{
			Message: line, Priority: 6, Seq: uint64(i + 1),
			Host: []byte("web-01"), Identifier: []byte("node"), Unit: []byte("checkout-api.service"),
			PID: []byte("4312"), Transport: []byte("stdout"), BootID: []byte("0123456789abcdef0123456789abcdef"),
			ID: []byte("0123456789abcdef0123456789abcdef"),
		})
	}
	return entries, size
}

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
	entries, size := benchEntries(b)
	for name, r := range map[string]*Redactor{"redacted": newRedactor(b, Options{}), "without": nil} {
		b.Run(name, func(b *testing.B) {
			l := &line{p: parse.New(parse.Options{}), r: r}
			b.SetBytes(size / int64(len(entries)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.do(&entries[i%len(entries)])
			}
		})
	}
}

// BenchmarkApply reports the cost of redaction alone, per line.
func BenchmarkApply(b *testing.B) {
	entries, size := benchEntries(b)
	p, r := parse.New(parse.Options{}), newRedactor(b, Options{})
	var records []record.Record
	for i := range entries {
		records = append(records, p.Parse(nil, &entries[i])...)
	}
	b.SetBytes(size / int64(len(entries)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Apply(&records[i%len(records)])
	}
}

func TestLinesWithoutSecretsDoNotAllocate(t *testing.T) {
	entries, _ := benchEntries(t)
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
	lines, cases := corpus(t)
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
