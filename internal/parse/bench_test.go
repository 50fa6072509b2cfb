package parse

import (
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// BenchmarkParse reports the cost per line, not per corpus. The whole chain, beside
// encoding/json, is BenchmarkChain of package ship.
func BenchmarkParse(b *testing.B) {
	entries, meanBytes := parsetest.BenchEntries()
	p := New(Options{})
	var records []record.Record
	b.SetBytes(meanBytes)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		records = p.Parse(records[:0], &entries[i%len(entries)])
	}
}

func TestParseEncodeDoesNotAllocate(t *testing.T) {
	entries, _ := parsetest.BenchEntries()
	p := New(Options{})
	o := &gelf.Options{Host: "web-01"}
	var records []record.Record
	var frame []byte
	all := func() {
		for i := range entries {
			records = p.Parse(records[:0], &entries[i])
			frame = frame[:0]
			for j := range records {
				frame = gelf.Append(frame, &records[j], o)
			}
		}
	}
	all() // warm up: buffers grow to the longest line
	if n := testing.AllocsPerRun(3, all); n > 0 {
		t.Errorf("%.1f allocations per %d lines, want none", n, len(entries))
	}
}
