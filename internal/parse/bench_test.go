package parse

import (
	"bytes"
	"encoding/json"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/record"
)

// benchEntries are lines of the users' services as the journal delivers them.
func benchEntries(tb testing.TB) (entries []record.Entry, size int64) {
	tb.Helper()
	for i, line := range bytes.Split(bytes.TrimSpace(gunzip(tb, "testdata/bench.log.gz")), []byte("\n")) {
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

// BenchmarkParseEncode reports the cost per line, not per corpus.
func BenchmarkParseEncode(b *testing.B) {
	entries, size := benchEntries(b)
	p := New(Options{})
	o := &gelf.Options{Host: "web-01"}
	var records []record.Record
	var frame []byte
	b.SetBytes(size / int64(len(entries)))
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
	entries, size := benchEntries(b)
	p := New(Options{})
	var records []record.Record
	b.SetBytes(size / int64(len(entries)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		records = p.Parse(records[:0], &entries[i%len(entries)])
	}
}

// BenchmarkEncodingJSON is the reference: decode a line and encode it again with
// the standard library, and nothing else.
func BenchmarkEncodingJSON(b *testing.B) {
	entries, size := benchEntries(b)
	b.SetBytes(size / int64(len(entries)))
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
	entries, _ := benchEntries(t)
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
