package gelfin

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
)

// headBytes is how much of a document is looked at for its level.
const headBytes = 4 << 10

// peeker finds out how important a document is that is not read yet: what is discarded
// first when there is too much.
type peeker struct {
	head []byte
	gzip *gzip.Reader
	zlib io.ReadCloser // also a zlib.Resetter
	in   bytes.Reader
}

// severity returns the level (GELF 1.1, "level") of a payload, 0 to 7, compressed or not,
// or -1 if it does not stand within its first 4 KiB. That is a guess: the name may be
// that of an inner object, or stand in a text.
func (p *peeker) severity(payload []byte) int {
	head := payload[:min(len(payload), headBytes)]
	if compressed := p.open(payload); compressed != nil {
		if p.head == nil {
			p.head = make([]byte, headBytes)
		}
		n, _ := io.ReadFull(compressed, p.head) // what is damaged is found when it is stored
		head = p.head[:n]
	}
	_, rest, found := bytes.Cut(head, []byte(`"level"`))
	rest = bytes.TrimLeft(rest, " :\"\t\r\n")
	if !found || len(rest) < 2 || rest[0] < '0' || rest[0] > '7' || rest[1] >= '0' && rest[1] <= '9' {
		return -1
	}
	return int(rest[0] - '0')
}

// open returns what decompresses a payload, or nil.
func (p *peeker) open(payload []byte) io.Reader {
	p.in.Reset(payload)
	var err error
	switch compression(payload) {
	case "gzip":
		if p.gzip == nil {
			p.gzip = new(gzip.Reader)
		}
		if err = p.gzip.Reset(&p.in); err == nil {
			return p.gzip
		}
	case "zlib":
		if p.zlib == nil {
			p.zlib, err = zlib.NewReader(&p.in)
		} else {
			err = p.zlib.(zlib.Resetter).Reset(&p.in, nil)
		}
		if err == nil {
			return p.zlib
		}
	}
	return nil
}
