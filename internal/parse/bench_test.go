package parse

import (
	"bytes"
	"encoding/json"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// BenchmarkParseEncode reports the cost per line, not per corpus.
func BenchmarkParseEncode(b *testing.B) {
	entries, meanBytes := parsetest.BenchEntries()
	p := New(Options{})
	o := &gelf.Options{Host: "web-01"}
	var records []record.Record
	var frame []byte
	b.SetBytes(meanBytes)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		records = p.Parse(records[:0], &entries[i%len(entries)])
		frame = frame[:0]
		for j := range records {
			frame = gelf.Append(frame, &records[j], o)
		}
	}
}

// BenchmarkParse is the part of BenchmarkParseEncode before encoding.
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

// BenchmarkEncodingJSON is the reference: decode a line and encode it again with
// the standard library, and nothing else.
func BenchmarkEncodingJSON(b *testing.B) {
	entries, meanBytes := parsetest.BenchEntries()
	b.SetBytes(meanBytes)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		line := bytes.TrimPrefix(entries[i%len(entries)].Message, []byte("_jsonrc:"))
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		var m map[string]any
		if d.Decode(&m) == nil {
			if _, err := json.Marshal(m); err != nil {
				b.Fatal(err)
			}
		}
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
