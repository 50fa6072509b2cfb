package gelfin

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

var errTooLong = errors.New("document is longer than the limit")

// inflate returns the document of a payload, which may be compressed by gzip or zlib, as
// its first two bytes say (GELF 1.1, "Compression"). It is at most max bytes long, or the
// error is errTooLong: a small payload must not fill the memory.
func inflate(payload []byte, max int) ([]byte, error) {
	switch compression(payload) {
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, fmt.Errorf("decompress gzip: %w", err)
		}
		z.Multistream(false) // as Graylog: what is behind is ignored
		return readLimited(z, max)
	case "zlib":
		z, err := zlib.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, fmt.Errorf("decompress zlib: %w", err)
		}
		return readLimited(z, max)
	}
	if len(payload) > max {
		return nil, errTooLong
	}
	return payload, nil
}

// compression returns "gzip", "zlib" or "", as the first two bytes of a payload say.
func compression(payload []byte) string {
	switch {
	case len(payload) < 2:
	case payload[0] == 0x1f && payload[1] == 0x8b:
		return "gzip"
	case payload[0]&0x0f == 8 && (uint(payload[0])<<8|uint(payload[1]))%31 == 0:
		return "zlib" // method deflate, and the check of RFC 1950 section 2.2: no JSON begins so
	}
	return ""
}

func readLimited(r io.Reader, max int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(max)+1))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if len(b) > max {
		return nil, errTooLong
	}
	return b, nil
}

// reasonOf returns why a payload with an error of inflate is discarded.
func reasonOf(err error) string {
	if errors.Is(err, errTooLong) {
		return ReasonTooLong
	}
	return ReasonCompression
}
