// Package parsetest holds the log lines that tests and benchmarks of several
// packages read. Nothing that ships imports it.
package parsetest

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the lines below
	"encoding/json"
	"io"
	"strings"

	"sidecar/internal/record"
)

//go:embed bench.log.gz
var benchLog string

// BenchLines returns the bench corpus: 2,000 lines as services with Winston
// print them, of 343 bytes on average, nearly all with the prefix "_jsonrc:",
// without line ends. The caller owns them. It panics if the corpus does not
// unpack.
func BenchLines() [][]byte {
	return bytes.Split(bytes.TrimSpace(unpack(benchLog)), []byte("\n"))
}

// unpack returns the content of an embedded gzip file.
func unpack(packed string) []byte {
	z, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		panic(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	return content
}

// BenchEntries returns the lines of BenchLines as the journal delivers them for
// the standard output of one service soon after they were printed, and their mean
// length in bytes.
func BenchEntries() (entries []record.Entry, meanBytes int64) {
	const firstUsec = 1794985600e6 // 2026-11-18T07:06:40Z, after the last line
	for i, line := range BenchLines() {
		meanBytes += int64(len(line))
		entries = append(entries, record.Entry{
			Message: line, TimeUsec: firstUsec + int64(i), Priority: 6, Seq: uint64(i + 1),
			Host: []byte("web-01"), Identifier: []byte("node"), Unit: []byte("checkout-api.service"),
			PID: []byte("4312"), Transport: []byte("stdout"), BootID: []byte("0123456789abcdef0123456789abcdef"),
			ID: []byte("0123456789abcdef0123456789abcdef"),
		})
	}
	return entries, meanBytes / int64(len(entries))
}

// BenchDocuments returns those lines of BenchLines that are one JSON object,
// without prefix, and their mean length in bytes.
func BenchDocuments() (documents [][]byte, meanBytes int64) {
	for _, line := range BenchLines() {
		line = bytes.TrimPrefix(line, []byte("_jsonrc:"))
		if line[0] == '{' && json.Valid(line) {
			documents = append(documents, line)
			meanBytes += int64(len(line))
		}
	}
	return documents, meanBytes / int64(len(documents))
}
